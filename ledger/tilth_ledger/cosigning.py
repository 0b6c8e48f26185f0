"""Cosigning: which heads of the tree members sign after finality, and what such a head becomes.

A vote says "this may become final"; a cosignature says "this is final, and I never signed another
history". So no vote is a cosignature, and a member cosigns nothing but the tree of a final block.

Agreed heads, so that k signatures meet on one: after a block that crosses a multiple of 256 leaves
and at the end of an epoch (both kept for ever), the tip once it is quiet, and the tip when somebody
asks. A head that another member cosigned is wanted here as well.

Invariants:
- Sizes that a member signs grow; a size is signed at most once (its ML-DSA-44 line may follow).
- What is due is final here: `final` is called with final blocks only, in order.
- An idle ledger owes nothing: once the tip is signed there is nothing due and no reason for a
  timer.

Left to others: recomputing the root from stored bytes, durability, sending (the node's cosigning).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from tilth_ledger.blocks import Header
from tilth_ledger.checkpoints import (
    Checkpoint,
    cosign,
    cosign_mldsa,
    cosigner_name,
    verifier,
)
from tilth_ledger.epochs import Signer, Signers
from tilth_ledger.errors import InvalidInput
from tilth_ledger.keys import SigningKey
from tilth_ledger.leaf import ENTRY, leaf_type
from tilth_ledger.messages import Signed
from tilth_ledger.mldsa import MlDsaSigningKey
from tilth_ledger.notes import (
    COSIGNATURE,
    ED25519,
    MLDSA_COSIGNATURE,
    Line,
    Note,
    VerifierKey,
    sign_line,
)

EVERY_LEAVES = 256
MAX_LINES = 16  # of a published checkpoint: what every reader must accept
OUTSIDE = 0x100  # added to the type of a line that is no member's: its name is a verifier key


@dataclass(frozen=True, slots=True)
class Head:
    """The tree after a final block, and the epoch whose members sign it."""

    size: int
    root: bytes
    epoch: int

    def checkpoint(self, origin: str) -> Checkpoint:
        return Checkpoint(origin, self.size, self.root)

    @staticmethod
    def of(header: Header) -> Head:
        return Head(header.size, header.root, header.epoch)


@dataclass(frozen=True, slots=True)
class CosignKeys:
    """What a member signs heads with."""

    log: SigningKey
    cosign: SigningKey
    mldsa: MlDsaSigningKey | None

    def of(self, member: Signer) -> bool:
        """Whether these are the keys that the ledger lists."""
        return (member.log, member.cosign) == (self.log.public, self.cosign.public)


class Schedule:
    """Which heads one member owes its cosignature."""

    def __init__(self, newest: int) -> None:
        self.newest = newest  # size of the newest head that I signed
        self.tip: Head | None = None
        self._due: dict[int, Head] = {}

    def final(self, header: Header, *, ends_epoch: bool = False) -> None:
        """A block is final."""
        self.tip = Head.of(header)
        if is_agreed(header) or ends_epoch:
            self.want(self.tip)

    def rest(self) -> None:
        """Nothing became final for a while, or somebody asks: the tip is due."""
        if self.tip is not None:
            self.want(self.tip)

    def want(self, head: Head) -> None:
        """A final head is due, unless I signed as much already."""
        if head.size > self.newest:
            self._due[head.size] = head

    def take(self) -> list[Head]:
        """The heads to sign now, by size; they are owed no longer."""
        due, self._due = self._due, {}
        return [due[size] for size in sorted(due) if size > self.newest]

    @property
    def quiet(self) -> bool:
        """Whether the tip is signed: no timer is needed."""
        return self.tip is None or self.tip.size <= self.newest


def is_agreed(header: Header) -> bool:
    """Whether a block crosses a multiple of 256 leaves: then everybody cosigns its tree."""
    return header.size // EVERY_LEAVES > (header.size - header.leaf_count) // EVERY_LEAVES


def is_weighty(leaf: bytes) -> bool:
    """Whether a leaf is a system leaf (a certified result, an epoch's end): audits will want it in
    ten years, so the head that holds it is signed with ML-DSA-44 too."""
    return leaf_type(leaf) != ENTRY


def sign(
    head: Head, origin: str, place: int, member: Signer, keys: CosignKeys, time: int
) -> list[Signed]:
    """A member's Ed25519 signatures on a head: log line and cosignature; `time` in seconds."""
    text = head.checkpoint(origin).text
    lines = {
        ED25519: sign_line(origin, keys.log, text),
        COSIGNATURE: cosign(cosigner_name(origin, member.organization), keys.cosign, text, time),
    }
    return [Signed(place, kind, line.signature) for kind, line in lines.items()]


def sign_mldsa(
    head: Head, origin: str, place: int, member: Signer, keys: CosignKeys, time: int
) -> list[Signed]:
    """The member's ML-DSA-44 cosignature, if the ledger lists a key of it."""
    if keys.mldsa is None or member.mldsa != keys.mldsa.public:
        return []
    text, name = head.checkpoint(origin).text, cosigner_name(origin, member.organization)
    line = cosign_mldsa(name, keys.mldsa, text, time)
    return [Signed(place, MLDSA_COSIGNATURE, line.signature)]


def verifier_key(origin: str, member: Signer, kind: int) -> VerifierKey:
    """A member's key of a type, as notes name it. Raises `InvalidInput` if it has none."""
    if kind == ED25519:
        return VerifierKey(origin, kind, member.log.raw)
    name = cosigner_name(origin, member.organization)
    if kind == COSIGNATURE:
        return VerifierKey(name, kind, member.cosign.raw)
    if member.mldsa is None:
        raise InvalidInput("the member has no ML-DSA-44 key", found=member.organization)
    return VerifierKey(name, kind, member.mldsa.raw)


def verify(signed: Signed, head: Head, origin: str, signers: Signers) -> Signer:
    """The member that signed `head`. Raises `InvalidInput` unless one did."""
    if signed.member >= len(signers.members):
        raise InvalidInput("cosignature is of no member", found=f"member {signed.member}")
    member = signers.members[signed.member]
    key = verifier_key(origin, member, signed.type)
    verifier(key).verify(head.checkpoint(origin).text, signed.signature)
    return member


def verify_outside(key: str, signature: bytes, head: Head, origin: str) -> None:
    """Raise `InvalidInput` unless the witness with this verifier key signed `head`."""
    verifier(VerifierKey.parse(key)).verify(head.checkpoint(origin).text, signature)


# Who signs heads in an epoch, by its number; None when that is not known here.
SignersOf = Callable[[int], Signers | None]

Signatures = Mapping[tuple[str, int], bytes]  # by (organization, type), or (key, type | OUTSIDE)


def cosigners(signatures: Signatures, signers: Signers) -> list[str]:
    """The members that cosigned with Ed25519, in the members' order."""
    everyone = [member.organization for member in signers.members]
    return [name for name in everyone if (name, COSIGNATURE) in signatures]


def publish(
    head: Head, signatures: Signatures, signers: Signers, origin: str, publisher: str
) -> bytes:
    """The checkpoint as a note: one log line (the publisher's, if it is a member), then the
    cosignatures and those of witnesses outside; ML-DSA-44 lines as long as all fit into 16.

    `signatures` are verified. Raises `InvalidInput` when there is none.
    """
    members = {member.organization: member for member in signers.members}
    names = sorted(members, key=lambda name: name != publisher)
    logs = [name for name in names if (name, ED25519) in signatures][:1]
    cosigned = cosigners(signatures, signers)
    quantum = [
        name
        for name in cosigned
        if (name, MLDSA_COSIGNATURE) in signatures and members[name].mldsa is not None
    ]
    outside = sorted(each for each in signatures if each[1] & OUTSIDE)[: MAX_LINES // 2]
    taken = len(logs) + len(outside)
    if taken + len(cosigned) > MAX_LINES:
        cosigned = cosigned[: max(signers.k, MAX_LINES - taken)]
    room = max(0, MAX_LINES - taken - len(cosigned))
    chosen = [(name, ED25519) for name in logs]
    chosen += [(name, COSIGNATURE) for name in cosigned]
    chosen += outside
    chosen += [(name, MLDSA_COSIGNATURE) for name in quantum[:room]]
    lines = _lines(chosen, members, signatures, origin)
    return Note(head.checkpoint(origin).text, tuple(lines)).encode()


def _lines(
    chosen: Iterable[tuple[str, int]],
    members: Mapping[str, Signer],
    signatures: Signatures,
    origin: str,
) -> Iterable[Line]:
    for name, kind in chosen:
        key = (
            VerifierKey.parse(name) if kind & OUTSIDE else verifier_key(origin, members[name], kind)
        )
        yield Line(key.name, key.id, signatures[name, kind])
