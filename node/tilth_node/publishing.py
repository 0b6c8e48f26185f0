"""Heads as strangers read them: signed notes, and the policies by which their lines count.

- What the disk gives back is verified again before it is shown: a line that changed is left out,
  told to the operator and forgotten, and its signer is asked for it again.

Leaves to others: gathering lines (cosigning, witnesses), the forms (tilth_ledger).
"""

from collections.abc import Callable, Sequence

from tilth_ledger import cosigning, policies
from tilth_ledger.cosigning import OUTSIDE, SignersOf
from tilth_ledger.epochs import Signers
from tilth_ledger.errors import InvalidInput
from tilth_ledger.messages import Signed
from tilth_ledger.notes import VerifierKey
from tilth_node.storage.cosignatures import CosignatureStore, Held


class Publisher:
    """What one node publishes of its heads."""

    def __init__(
        self, origin: str, me: str, signers_of: SignersOf, store: CosignatureStore
    ) -> None:
        self.on_alarm: Callable[[str, str], None] = lambda kind, message: None
        self.outside: Sequence[VerifierKey] = ()  # keys of witnesses that this node asks
        self._origin = origin
        self._me = me
        self._signers_of = signers_of
        self._store = store
        self._newest: tuple[Held | None, bytes] = (None, b"")  # the newest note that was made

    def checkpoint(self, held: Held) -> bytes:
        """A head as a signed note. Raises `InvalidInput` when its epoch is not known here."""
        if self._newest[0] == held:
            return self._newest[1]
        signers = self._signers_of(held.head.epoch)
        if signers is None:
            raise InvalidInput("head is of an unknown epoch", found=held.head.epoch)
        sound = self._sound(held, signers)
        note = cosigning.publish(held.head, sound, signers, self._origin, self._me)
        self._newest = (held, note)
        return note

    def policy(self, epoch: int) -> bytes | None:
        """The policy of an epoch, which also names the witnesses outside; None if it is not known
        here."""
        signers = self._signers_of(epoch)
        if signers is None:
            return None
        count = f"any {signers.k} of {len(signers.members)} members"
        return policies.write(
            self._origin, signers, f"{self._origin}, epoch {epoch}: {count}", self.outside
        )

    def _sound(self, held: Held, signers: Signers) -> cosigning.Signatures:
        """The signatures on a head that verify, as all did when they were stored."""
        sound = dict(held.signatures)
        for name, kind in held.signatures:
            try:
                self._verify(held, name, kind, signers)
            except InvalidInput:
                del sound[name, kind]
                self._store.forget(held.head.size, name, kind)
                words = f"a signature of {name} on the head of size {held.head.size}"
                self.on_alarm(
                    "cosignatures", f"cosignatures.db gave back {words} changed: forgotten"
                )
        return sound

    def _verify(self, held: Held, name: str, kind: int, signers: Signers) -> None:
        data = held.signatures[name, kind]
        if kind & OUTSIDE:
            cosigning.verify_outside(name, data, held.head, self._origin)
            return
        place = signers.place(name)
        if place is None:
            raise InvalidInput("a signature of no member", found=name)
        cosigning.verify(Signed(place, kind, data), held.head, self._origin, signers)
