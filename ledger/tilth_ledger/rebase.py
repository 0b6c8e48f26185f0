"""Rebase: a new consortium that names the last checkpoint of an old one that cannot go on.

Whoever remains signs a statement: behind this final block we begin anew. The new genesis holds the
old net, the block's header (size, root, digest of all rows), its finality certificate, and those
signatures. The old identity is never used again; what it proved stays provable by its own genesis.

Invariants:
- Every signature is by a vote key of the old ledger's epoch, and over one and the same block.
- The members of the new genesis are those that signed; everybody else is listed without a vote.

Left to others: which block to keep, which the members decide; the new ledger begins empty, and what
it takes over is registered again (the node moves files, see its README).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tilth_ledger import canonical
from tilth_ledger.blocks import FINALIZE, Certificate, Header
from tilth_ledger.epochs import Epoch
from tilth_ledger.errors import InvalidInput
from tilth_ledger.genesis import Genesis, Organization
from tilth_ledger.keys import SIGNATURE_BYTES, SigningKey, unhex

FORMAT = "tilth-rebase-1"
MAX_STATEMENT_BYTES = 1 << 20

_TAG = b"tilth/rebase/1\0"
_FIELDS = {"format", "net", "organization", "header", "certificate", "signature"}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A final block of the old ledger, and who signed that the new one begins behind it."""

    net: str
    header: Header
    certificate: Certificate
    signatures: Mapping[str, bytes]  # by organization

    def as_dict(self) -> dict[str, Any]:
        """As the new genesis holds it; size and root stand there for people, too."""
        return {
            "net": self.net,
            "size": self.header.size,
            "root": self.header.root.hex(),
            "header": self.header.encode().hex(),
            "certificate": self.certificate.encode().hex(),
            "signatures": {name: each.hex() for name, each in sorted(self.signatures.items())},
        }

    def check(self, epoch: Epoch, final: Epoch | None = None) -> None:
        """Raise `InvalidInput` unless the block was final, and all who are named signed it: members
        of this epoch of the net, or of `final`, in which the block was made (by default the same:
        they differ where the ledger ended with an epoch)."""
        final = final or epoch
        if self.header.net.hex() != self.net or epoch.net != self.header.net:
            raise InvalidInput(
                "the checkpoint is of another consortium",
                found=self.header.net.hex(),
                expected=epoch.net.hex(),
            )
        stated = self.certificate.kind, self.certificate.block
        if stated != (FINALIZE, self.header.hash):
            raise InvalidInput("the certificate does not make the checkpoint's block final")
        self.certificate.verify(final)
        for name, signature in self.signatures.items():
            _check_signed(_voters(name, epoch, final), signature, _text(self.header))


def sign(organization: str, key: SigningKey, header: Header, certificate: Certificate) -> bytes:
    """The statement of one member, as a file."""
    return canonical.dumps(
        {
            "format": FORMAT,
            "net": header.net.hex(),
            "organization": organization,
            "header": header.encode().hex(),
            "certificate": certificate.encode().hex(),
            "signature": key.sign(_text(header)).hex(),
        }
    )


def gather(files: Iterable[bytes]) -> Checkpoint:
    """What all statements agree on. Raises `InvalidInput` when they do not, or none is given."""
    found = [_parse(data) for data in files]
    if not found:
        raise InvalidInput("nobody signed a checkpoint", expected="one statement at least")
    first = found[0]
    for each in found:
        if each.header != first.header:
            raise InvalidInput(
                "the statements name different blocks",
                found=_words(each),
                expected=_words(first),
                remedy="Agree on one block: the others sign again on a copy of that ledger.",
            )
    signatures = {name: each for one in found for name, each in one.signatures.items()}
    return Checkpoint(first.net, first.header, first.certificate, signatures)


def write(
    name: str, checkpoint: Checkpoint, epoch: Epoch, old: Genesis, final: Epoch | None = None
) -> Genesis:
    """The new genesis: whoever signed votes, everybody else is listed without a vote."""
    checkpoint.check(epoch, final)
    members = [each for each in epoch.members if each.organization in checkpoint.signatures]
    others = [each for each in epoch.everyone() if each not in members]
    return Genesis.write(
        name,
        members,
        others,
        limits=old.limits,
        delta_ms=old.delta_ms,
        publication=old.publication,
        continues=checkpoint.as_dict(),
    )


def continued(genesis: Genesis) -> Checkpoint:
    """The checkpoint that a genesis names. Raises `InvalidInput` if it names none, or no good one;
    its signatures are checked by `Checkpoint.check`."""
    value = genesis.continues
    if value is None:
        raise InvalidInput(
            "this genesis continues no other ledger",
            expected="one that `tilth ledger rebase begin` wrote",
            remedy="To join a new consortium: tilth node join FOLDER GENESIS",
        )
    header = Header.decode(bytes.fromhex(value["header"]))
    certificate = Certificate.decode(bytes.fromhex(value["certificate"]))
    if (value["size"], value["root"]) != (header.size, header.root.hex()):
        raise InvalidInput("the genesis states another size or root than the checkpoint's header")
    signatures = {n: unhex(s, SIGNATURE_BYTES, "signature") for n, s in value["signatures"].items()}
    return Checkpoint(value["net"], header, certificate, signatures)


def _parse(data: bytes) -> Checkpoint:
    value = canonical.loads(data, max_bytes=MAX_STATEMENT_BYTES)
    if not isinstance(value, dict) or value.keys() != _FIELDS or value["format"] != FORMAT:
        raise InvalidInput("this is no statement of a rebase", expected=sorted(_FIELDS))
    texts = {name: value[name] for name in _FIELDS}
    if not all(isinstance(text, str) for text in texts.values()):
        raise InvalidInput("a statement of a rebase holds texts only")
    header = Header.decode(_bytes(texts["header"], "header"))
    certificate = Certificate.decode(_bytes(texts["certificate"], "certificate"))
    signature = unhex(texts["signature"], SIGNATURE_BYTES, "signature")
    return Checkpoint(texts["net"], header, certificate, {texts["organization"]: signature})


def _bytes(text: str, what: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise InvalidInput(f"the statement's {what} is no hex", found=text[:40]) from None


def _voters(name: str, *epochs: Epoch) -> list[Organization]:
    """An organization as a member of any of these epochs: it may have rotated its key between."""
    found = [each for epoch in epochs for each in epoch.members if each.organization == name]
    if found:
        return found
    names: Sequence[str] = [each.organization for each in epochs[0].members]
    raise InvalidInput(
        "a checkpoint is signed by one that did not vote", found=name, expected=", ".join(names)
    )


def _check_signed(parties: Sequence[Organization], signature: bytes, text: bytes) -> None:
    for party in parties[:-1]:
        with suppress(InvalidInput):
            party.keys.vote.verify(signature, text)
            return
    parties[-1].keys.vote.verify(signature, text)


def _text(header: Header) -> bytes:
    return _TAG + header.net + header.hash


def _words(checkpoint: Checkpoint) -> str:
    [name] = checkpoint.signatures
    header = checkpoint.header
    return f"{name}: block {header.hash.hex()[:16]} at height {header.height}, size {header.size}"
