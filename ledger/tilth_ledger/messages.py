"""What members say to one another, as fixed, bounded binary layouts.

A message is one byte of kind and a body. The node's wire carries it as opaque bytes.

Invariants:
- `decode_message(m.encode()) == m`; the decoder raises nothing but `InvalidInput`, and its result
  is never larger than the bytes it was given.
- An unknown kind decodes to None: a newer member may say things that an older one does not know.

Left to others: who may say what, and whether it is true (replica); framing and transport (node).
All integers are big-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tilth_ledger.blocks import NONCE_BYTES, Block, Certificate, Vote
from tilth_ledger.checkpoints import SIGNATURE_LENGTHS
from tilth_ledger.errors import InvalidInput
from tilth_ledger.evidence import Evidence
from tilth_ledger.leaf import MAX_LEAF_BYTES
from tilth_ledger.reader import Reader

MAX_MESSAGE_BYTES = 16 << 20
MAX_LEAVES = 4_096
MAX_VOTES = 1_024
MAX_CERTIFICATES = 1_024
MAX_CHAIN_BLOCKS = 1_024
MAX_EVIDENCE = 64
MAX_SIGNATURES = 1_024  # on one head

# epoch, view, unproven, finalized view, height, size, root, asks, count of votes
_STATUS = struct.Struct(">QQQQQQ32sBB")
_HEAD = struct.Struct(">BQQ32s")
_SIGNED = struct.Struct(">HB")


@dataclass(frozen=True, slots=True)
class Gossip:
    """Submitted leaves, encoded: count u16, then length u32 and bytes of each."""

    leaves: tuple[bytes, ...]

    def encode(self) -> bytes:
        return b"\x01" + _write_list(2, self.leaves)

    @staticmethod
    def read(reader: Reader) -> Gossip:
        return Gossip(_read_list(reader, 2, MAX_LEAVES, MAX_LEAF_BYTES))


@dataclass(frozen=True, slots=True)
class Proposal:
    """A leader's block and its own notarize vote for it: vote, then block."""

    vote: Vote
    block: Block

    def encode(self) -> bytes:
        return b"".join((b"\x02", self.vote.encode(), self.block.encode()))

    @staticmethod
    def read(reader: Reader) -> Proposal:
        vote = Vote.read(reader)
        return Proposal(vote, Block.decode(reader.take(reader.left)))


@dataclass(frozen=True, slots=True)
class Votes:
    """Votes of the sender: count u16, votes."""

    votes: tuple[Vote, ...]

    def encode(self) -> bytes:
        return b"\x03" + _count(2, self.votes) + b"".join(vote.encode() for vote in self.votes)

    @staticmethod
    def read(reader: Reader) -> Votes:
        return Votes(tuple(Vote.read(reader) for _ in range(_number(reader, 2, MAX_VOTES))))


@dataclass(frozen=True, slots=True)
class Certificates:
    """Certificates of any views: count u16, certificates."""

    certificates: tuple[Certificate, ...]

    def encode(self) -> bytes:
        parts = (certificate.encode() for certificate in self.certificates)
        return b"\x04" + _count(2, self.certificates) + b"".join(parts)

    @staticmethod
    def read(reader: Reader) -> Certificates:
        count = _number(reader, 2, MAX_CERTIFICATES)
        return Certificates(tuple(Certificate.read(reader) for _ in range(count)))


@dataclass(frozen=True, slots=True)
class Status:
    """Where the sender stands, and the votes it holds of the receiver in the receiver's highest
    view: signed, so that a liar cannot accuse anybody of having forgotten a vote.

    `unproven` is the lowest view above the finalized one that the sender cannot prove to be over;
    `asks` wants a Status in return.
    """

    epoch: int
    view: int
    unproven: int
    finalized_view: int
    height: int
    size: int
    root: bytes
    asks: bool
    yours: tuple[Vote, ...]

    def encode(self) -> bytes:
        head = _STATUS.pack(
            self.epoch,
            self.view,
            self.unproven,
            self.finalized_view,
            self.height,
            self.size,
            self.root,
            self.asks,
            len(self.yours),
        )
        return b"".join((b"\x05", head, *(vote.encode() for vote in self.yours)))

    @staticmethod
    def read(reader: Reader) -> Status:
        epoch, view, unproven, final, height, size, root, asks, count = reader.unpack(_STATUS)
        if asks > 1:
            raise InvalidInput("status asks is neither 0 nor 1", found=asks)
        yours = tuple(Vote.read(reader) for _ in range(count))
        return Status(epoch, view, unproven, final, height, size, root, bool(asks), yours)


@dataclass(frozen=True, slots=True)
class FetchBlock:
    """Asks for the block with this hash."""

    block: bytes

    def encode(self) -> bytes:
        return b"\x06" + self.block

    @staticmethod
    def read(reader: Reader) -> FetchBlock:
        return FetchBlock(reader.take(32))


@dataclass(frozen=True, slots=True)
class Body:
    """A block that was asked for; whoever asked knows its hash."""

    block: Block

    def encode(self) -> bytes:
        return b"\x07" + self.block.encode()

    @staticmethod
    def read(reader: Reader) -> Body:
        return Body(Block.decode(reader.take(reader.left)))


@dataclass(frozen=True, slots=True)
class FetchChain:
    """Asks for final blocks from this height on: u64."""

    height: int

    def encode(self) -> bytes:
        return b"\x08" + struct.pack(">Q", self.height)

    @staticmethod
    def read(reader: Reader) -> FetchChain:
        return FetchChain(reader.number(8))


@dataclass(frozen=True, slots=True)
class Chain:
    """Final blocks in order of height, and the finality certificate of the last one if it has one.

    Layout: certificate count u8 (0 or 1), certificate, count u16, length u32 and bytes of each
    block. Blocks stay encoded until their hashes are known to link.
    """

    blocks: tuple[bytes, ...]
    certificate: Certificate | None

    def encode(self) -> bytes:
        certificate = b"\0" if self.certificate is None else b"\1" + self.certificate.encode()
        return b"".join((b"\x09", certificate, _write_list(2, self.blocks)))

    @staticmethod
    def read(reader: Reader) -> Chain:
        has = _number(reader, 1, 1)
        certificate = Certificate.read(reader) if has else None
        return Chain(_read_list(reader, 2, MAX_CHAIN_BLOCKS, MAX_MESSAGE_BYTES), certificate)


@dataclass(frozen=True, slots=True)
class Accusation:
    """Evidence that the receiver may lack: count u8, then both votes of each."""

    evidence: tuple[Evidence, ...]

    def encode(self) -> bytes:
        return b"\x0b" + _count(1, self.evidence) + b"".join(e.encode() for e in self.evidence)

    @staticmethod
    def read(reader: Reader) -> Accusation:
        count = _number(reader, 1, MAX_EVIDENCE)
        return Accusation(tuple(_evidence(reader) for _ in range(count)))


@dataclass(frozen=True, slots=True)
class Signed:
    """One signature on a head: the member's place in the epoch, the type and the bytes as in a
    note's line (tilth_ledger.notes, tilth_ledger.checkpoints)."""

    member: int
    type: int
    signature: bytes


@dataclass(frozen=True, slots=True)
class Cosignatures:
    """Signatures of any members on the tree of `size` leaves; `asks` wants those that you hold.

    Layout: asks u8, epoch u64, size u64, root, count u16, then member u16, type u8 and as many
    bytes as the type has for each. Not for the replica: nothing is decided by it.
    """

    asks: bool
    epoch: int
    size: int
    root: bytes
    signatures: tuple[Signed, ...]

    def encode(self) -> bytes:
        head = _HEAD.pack(self.asks, self.epoch, self.size, self.root)
        parts = (_SIGNED.pack(x.member, x.type) + x.signature for x in self.signatures)
        return b"".join((b"\x0a", head, _count(2, self.signatures), *parts))

    @staticmethod
    def read(reader: Reader) -> Cosignatures:
        asks, epoch, size, root = reader.unpack(_HEAD)
        if asks > 1:
            raise InvalidInput("cosignatures' asks is neither 0 nor 1", found=asks)
        count = _number(reader, 2, MAX_SIGNATURES)
        signed = tuple(Cosignatures._signed(reader) for _ in range(count))
        return Cosignatures(bool(asks), epoch, size, root, signed)

    @staticmethod
    def _signed(reader: Reader) -> Signed:
        member, kind = reader.unpack(_SIGNED)
        if kind not in SIGNATURE_LENGTHS:
            raise InvalidInput("cosignature of an unknown type", found=kind)
        return Signed(member, kind, reader.take(SIGNATURE_LENGTHS[kind]))


@dataclass(frozen=True, slots=True)
class Barrier:
    """Nonces of the sender's readers, to be listed in a block: count u8, nonces."""

    nonces: tuple[bytes, ...]

    def encode(self) -> bytes:
        return b"\x0c" + _count(1, self.nonces) + b"".join(self.nonces)

    @staticmethod
    def read(reader: Reader) -> Barrier:
        count = reader.number(1)
        return Barrier(tuple(reader.take(NONCE_BYTES) for _ in range(count)))


Message = (
    Gossip
    | Proposal
    | Votes
    | Certificates
    | Status
    | FetchBlock
    | Body
    | FetchChain
    | Chain
    | Accusation
    | Barrier
    | Cosignatures
)

_READERS: dict[int, Callable[[Reader], Message]] = {
    1: Gossip.read,
    2: Proposal.read,
    3: Votes.read,
    4: Certificates.read,
    5: Status.read,
    6: FetchBlock.read,
    7: Body.read,
    8: FetchChain.read,
    9: Chain.read,
    11: Accusation.read,
    12: Barrier.read,
    10: Cosignatures.read,
}


def decode_message(data: bytes) -> Message | None:
    """The message in `data`; None if its kind is unknown, `InvalidInput` if it is malformed."""
    if len(data) > MAX_MESSAGE_BYTES:
        raise InvalidInput("message is too large", found=len(data), expected=MAX_MESSAGE_BYTES)
    reader = Reader(data, "message")
    read = _READERS.get(reader.number(1))
    if read is None:
        return None
    message = read(reader)
    reader.end()
    return message


def _evidence(reader: Reader) -> Evidence:
    """Both votes, in the one form that a pair has."""
    first, second = Vote.read(reader), Vote.read(reader)
    evidence = Evidence.of(first, second)
    if evidence.first != first:
        raise InvalidInput("evidence's votes are not in order", found=first.kind.name)
    return evidence


def _count(width: int, items: tuple[object, ...]) -> bytes:
    return len(items).to_bytes(width)


def _number(reader: Reader, width: int, most: int) -> int:
    count = reader.number(width)
    if count > most:
        raise InvalidInput("message lists too much", found=count, expected=f"at most {most}")
    return count


def _write_list(width: int, items: tuple[bytes, ...]) -> bytes:
    return _count(width, items) + b"".join(_sized(items))


def _sized(items: Iterable[bytes]) -> Iterable[bytes]:
    for item in items:
        yield struct.pack(">I", len(item))
        yield item


def _read_list(reader: Reader, width: int, most: int, most_bytes: int) -> tuple[bytes, ...]:
    return reader.items(_number(reader, width, most), most_bytes)
