"""Blocks and votes: headers, votes, certificates, justifications, and their fixed layouts.

The parent of the first block is the genesis block, which nobody writes: view 0, height 0, size 0,
the empty root, and the net's 32 bytes as its hash. It is final and needs no certificate.

Invariants:
- `decode(b).encode() == b` for every `b` that decodes, and decoders raise nothing but
  `InvalidInput`.
- Votes sign a fixed-width text with a domain, the net, epoch, kind, view and block hash: never
  JSON, never protobuf. A nullify vote has a zero block hash; no other vote has.
- A certificate is a bitmap of members and one signature for each, in the order of members.

Left to others: when to vote (replica), what the roots must be (execution). All integers are
big-endian; layouts stand beside each class.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from tilth_ledger.canonical import MAX_INTEGER
from tilth_ledger.epochs import Epoch
from tilth_ledger.errors import InvalidInput
from tilth_ledger.keys import SIGNATURE_BYTES, PublicKey, SigningKey
from tilth_ledger.leaf import MAX_LEAF_BYTES
from tilth_ledger.merkle import HASH_BYTES
from tilth_ledger.reader import Reader

ZERO_HASH = bytes(HASH_BYTES)
MAX_SKIPS = 4096
MAX_BARRIERS = 256
NONCE_BYTES = 16
MAX_BLOCK_BYTES = 64 << 20

_HEADER_TAG = b"tilth/header/1\0"
_SKIPS_TAG = b"tilth/skips/1\0"
_VOTE_TAG = b"tilth/vote/1\0"
# net, epoch, kind, view, block
_VOTE_TEXT = struct.Struct(">32sQBQ32s")
# version, net, epoch, view, height, parent, parent view, skips, leaf count, size, root, state,
# time, proposer
_HEADER = struct.Struct(">H32sQQQ32sQ32sIQ32s32sQH")
# kind, epoch, view, block, member, signature
_VOTE = struct.Struct(">BQQ32sH64s")
# kind, epoch, view, block, width
_CERTIFICATE = struct.Struct(">BQQ32sH")


class Kind(IntEnum):
    """The three votes."""

    NOTARIZE = 1
    NULLIFY = 2
    FINALIZE = 3


NOTARIZE, NULLIFY, FINALIZE = Kind.NOTARIZE, Kind.NULLIFY, Kind.FINALIZE


def vote_bytes(net: bytes, kind: Kind, epoch: int, view: int, block: bytes) -> bytes:
    """What a vote signs."""
    if len(net) != HASH_BYTES or len(block) != HASH_BYTES:  # struct would pad or cut
        raise InvalidInput(
            "vote names no hash", found=f"{len(block)} bytes", expected=f"{HASH_BYTES} bytes"
        )
    return _VOTE_TAG + _VOTE_TEXT.pack(net, epoch, kind, view, block)


@dataclass(frozen=True, slots=True)
class Header:
    """A block's fixed part: version u16 = 1, then the fields below in this order."""

    net: bytes
    epoch: int
    view: int
    height: int
    parent: bytes
    parent_view: int
    skips: bytes  # Justification.skips_digest
    leaf_count: int
    size: int  # of the tree, after this block
    root: bytes  # of the tree, after this block
    state: bytes  # digest of all rows, after this block
    time_ms: int
    proposer: int  # index of the member

    def encode(self) -> bytes:
        return _HEADER.pack(
            1,
            self.net,
            self.epoch,
            self.view,
            self.height,
            self.parent,
            self.parent_view,
            self.skips,
            self.leaf_count,
            self.size,
            self.root,
            self.state,
            self.time_ms,
            self.proposer,
        )

    @staticmethod
    def decode(data: bytes) -> Header:
        if len(data) != _HEADER.size:
            raise InvalidInput(
                "header has the wrong length", found=len(data), expected=_HEADER.size
            )
        version, *fields = _HEADER.unpack(data)
        if version != 1:
            raise InvalidInput("unknown header version", found=version, expected=1)
        header = Header(*fields)
        if max(header.time_ms, header.size, header.height, header.view) > MAX_INTEGER:
            raise InvalidInput("header holds a number beyond 2^53")
        return header

    @property
    def hash(self) -> bytes:
        return hashlib.sha256(_HEADER_TAG + self.encode()).digest()


HEADER_BYTES = _HEADER.size


@dataclass(frozen=True, slots=True)
class Vote:
    """One member's vote: kind u8, epoch u64, view u64, block hash, member u16, signature."""

    kind: Kind
    epoch: int
    view: int
    block: bytes
    member: int
    signature: bytes

    @staticmethod
    def sign(
        epoch: Epoch, key: SigningKey, member: int, kind: Kind, view: int, block: bytes
    ) -> Vote:
        text = vote_bytes(epoch.net, kind, epoch.number, view, block)
        return Vote(kind, epoch.number, view, block, member, key.sign(text))

    def encode(self) -> bytes:
        return _VOTE.pack(self.kind, self.epoch, self.view, self.block, self.member, self.signature)

    @staticmethod
    def decode(data: bytes) -> Vote:
        reader = Reader(data, "vote")
        vote = Vote.read(reader)
        reader.end()
        return vote

    @staticmethod
    def read(reader: Reader) -> Vote:
        kind, *fields = reader.unpack(_VOTE)
        vote = Vote(_kind(kind), *fields)
        _check_block(vote.kind, vote.block)
        return vote

    def verify(self, epoch: Epoch) -> None:
        """Raise `InvalidInput` unless a member of `epoch` cast this vote."""
        _check_epoch(self.epoch, epoch)
        _check_block(self.kind, self.block)
        text = vote_bytes(epoch.net, self.kind, self.epoch, self.view, self.block)
        _vote_key(epoch, self.member).verify(self.signature, text)


@dataclass(frozen=True, slots=True)
class Certificate:
    """q votes in one.

    Layout: kind u8, epoch u64, view u64, block hash, width u16 (members of the epoch), bitmap of
    (width + 7) // 8 bytes with member i at bit 7 - i % 8 of byte i // 8, one signature per set bit.
    """

    kind: Kind
    epoch: int
    view: int
    block: bytes
    width: int
    members: tuple[int, ...]
    signatures: tuple[bytes, ...]

    @staticmethod
    def of(votes: Iterable[Vote], width: int) -> Certificate:
        """The certificate of votes that agree, by distinct members."""
        ordered = sorted(votes, key=lambda vote: vote.member)
        first = ordered[0]
        return Certificate(
            first.kind,
            first.epoch,
            first.view,
            first.block,
            width,
            tuple(vote.member for vote in ordered),
            tuple(vote.signature for vote in ordered),
        )

    def votes(self) -> Iterable[Vote]:
        """The votes it is made of."""
        for member, signature in zip(self.members, self.signatures, strict=True):
            yield Vote(self.kind, self.epoch, self.view, self.block, member, signature)

    def encode(self) -> bytes:
        bitmap = bytearray((self.width + 7) // 8)
        for member in self.members:
            bitmap[member // 8] |= 0x80 >> member % 8
        head = _CERTIFICATE.pack(self.kind, self.epoch, self.view, self.block, self.width)
        return b"".join((head, bitmap, *self.signatures))

    @staticmethod
    def decode(data: bytes) -> Certificate:
        reader = Reader(data, "certificate")
        certificate = Certificate.read(reader)
        reader.end()
        return certificate

    @staticmethod
    def read(reader: Reader) -> Certificate:
        code, epoch, view, block, width = reader.unpack(_CERTIFICATE)
        kind = _kind(code)
        _check_block(kind, block)
        bitmap = reader.take((width + 7) // 8)
        members = tuple(i for i in range(8 * len(bitmap)) if bitmap[i // 8] & 0x80 >> i % 8)
        if members and members[-1] >= width:
            raise InvalidInput(
                "certificate's bitmap has bits beyond its members", found=members[-1]
            )
        signatures = tuple(reader.take(SIGNATURE_BYTES) for _ in members)
        return Certificate(kind, epoch, view, block, width, members, signatures)

    def verify(self, epoch: Epoch) -> None:
        """Raise `InvalidInput` unless at least q distinct members of `epoch` cast these votes."""
        self.check_form(epoch)
        text = vote_bytes(epoch.net, self.kind, self.epoch, self.view, self.block)
        for member, signature in zip(self.members, self.signatures, strict=True):
            _vote_key(epoch, member).verify(signature, text)

    def check_form(self, epoch: Epoch) -> None:
        """All of `verify` but the signatures, for one who has verified these votes before."""
        _check_epoch(self.epoch, epoch)
        _check_block(self.kind, self.block)
        if self.width != len(epoch.members):
            raise InvalidInput(
                "certificate is of another number of members",
                found=self.width,
                expected=len(epoch.members),
            )
        if any(a >= b for a, b in zip(self.members, self.members[1:], strict=False)):
            raise InvalidInput(
                "certificate's members are not distinct and in order", found=self.members
            )
        if len(self.members) < epoch.q or len(self.signatures) != len(self.members):
            raise InvalidInput(
                "certificate has too few votes",
                found=f"{len(self.signatures)} signatures of {len(self.members)} members",
                expected=f"at least {epoch.q} of {self.width}",
            )


@dataclass(frozen=True, slots=True)
class Justification:
    """Why a block may stand where it does.

    `parent`: the parent's notarization or finality certificate (None for the block that
    the epoch starts on);
    `skips`: nullifications of every view between the parent's and the block's, in order;
    `barriers`: nonces of readers that the block answers, which is no proof but a reason.
    Layout: parent count u8 (0 or 1), parent, skip count u16, skips, barrier count u16, nonces.
    """

    parent: Certificate | None
    skips: tuple[Certificate, ...] = ()
    barriers: tuple[bytes, ...] = ()

    @property
    def skips_digest(self) -> bytes:
        """What the header binds of the skip proofs, whose number it implies, and of the barriers
        behind them."""
        bound = (*(skip.encode() for skip in self.skips), *self.barriers)
        return hashlib.sha256(_SKIPS_TAG + b"".join(bound)).digest()

    def encode(self) -> bytes:
        parent = b"\0" if self.parent is None else b"\1" + self.parent.encode()
        skips = b"".join(skip.encode() for skip in self.skips)
        barriers = struct.pack(">H", len(self.barriers)) + b"".join(self.barriers)
        return b"".join((parent, struct.pack(">H", len(self.skips)), skips, barriers))

    @staticmethod
    def read(reader: Reader) -> Justification:
        has_parent = reader.number(1)
        if has_parent > 1:
            raise InvalidInput("justification has more than one parent", found=has_parent)
        parent = Certificate.read(reader) if has_parent else None
        count = reader.number(2)
        if count > MAX_SKIPS:
            raise InvalidInput(
                "justification skips too many views", found=count, expected=MAX_SKIPS
            )
        skips = tuple(Certificate.read(reader) for _ in range(count))
        asked = reader.number(2)
        if asked > MAX_BARRIERS:
            raise InvalidInput("block lists too many barriers", found=asked, expected=MAX_BARRIERS)
        return Justification(parent, skips, tuple(reader.take(NONCE_BYTES) for _ in range(asked)))

    def verify(self, header: Header, epoch: Epoch) -> None:
        """Raise `InvalidInput` unless this justifies a block with `header`."""
        if self.parent is None:
            self._check_starts(header, epoch)
        else:
            self._check_parent(self.parent, header)
            self.parent.verify(epoch)
        skipped = tuple(skip.view for skip in self.skips)
        gap = range(header.parent_view + 1, header.view)
        if header.view <= header.parent_view or len(gap) != len(skipped) or tuple(gap) != skipped:
            raise InvalidInput(
                "skip proofs do not cover the views between parent and block",
                found=skipped[:8],
                expected=f"every view from {header.parent_view + 1} to {header.view - 1}",
            )
        if self.skips_digest != header.skips:
            raise InvalidInput("skip proofs are not those that the header binds")
        for skip in self.skips:
            if skip.kind is not NULLIFY:
                raise InvalidInput("skip proof is not a nullification", found=skip.kind.name)
            skip.verify(epoch)

    @staticmethod
    def _check_starts(header: Header, epoch: Epoch) -> None:
        if not starts(header, epoch):
            raise InvalidInput(
                "block does not certify its parent",
                found=f"height {header.height}",
                expected="a certificate, or the block as parent on which its epoch starts,"
                f" of height {epoch.parent_height}",
            )

    @staticmethod
    def _check_parent(parent: Certificate, header: Header) -> None:
        if parent.kind is NULLIFY or (parent.block, parent.view) != (
            header.parent,
            header.parent_view,
        ):
            raise InvalidInput(
                "certificate is not of the block's parent",
                found=f"{parent.kind.name} of {parent.block.hex()[:16]} in view {parent.view}",
                expected=f"{header.parent.hex()[:16]} in view {header.parent_view}",
            )


@dataclass(frozen=True, slots=True)
class Block:
    """Layout: header, justification, leaf count u32, then length u32 and bytes of each leaf."""

    header: Header
    leaves: tuple[bytes, ...]
    justification: Justification

    @property
    def hash(self) -> bytes:
        return self.header.hash

    def encode(self) -> bytes:
        parts = [self.header.encode(), self.justification.encode()]
        parts.append(struct.pack(">I", len(self.leaves)))
        for leaf in self.leaves:
            parts += (struct.pack(">I", len(leaf)), leaf)
        return b"".join(parts)

    @staticmethod
    def decode(data: bytes, max_bytes: int = MAX_BLOCK_BYTES) -> Block:
        if len(data) > max_bytes:
            raise InvalidInput("block is too large", found=len(data), expected=max_bytes)
        reader = Reader(data, "block")
        header = Header.decode(reader.take(HEADER_BYTES))
        justification = Justification.read(reader)
        count = reader.number(4)
        if count != header.leaf_count:
            raise InvalidInput(
                "block's leaves are not as many as its header says",
                found=count,
                expected=header.leaf_count,
            )
        if 4 * count > reader.left:
            raise InvalidInput("block is cut short", found=f"{reader.left} bytes")
        leaves = reader.items(count, MAX_LEAF_BYTES)
        reader.end()
        return Block(header, leaves, justification)


def epoch_of(block: bytes) -> int:
    """The epoch that stands in an encoded block; 0 in what is none."""
    return int.from_bytes(block[2 + HASH_BYTES : 10 + HASH_BYTES])


def starts(header: Header, epoch: Epoch) -> bool:
    """Whether a block stands on the one that its epoch starts on, which needs no certificate."""
    stands = (header.parent, header.parent_view, header.height)
    return stands == (epoch.parent, epoch.parent_view, epoch.parent_height + 1)


def _kind(code: int) -> Kind:
    try:
        return Kind(code)
    except ValueError:
        raise InvalidInput("unknown kind of vote", found=code, expected="1, 2 or 3") from None


def _check_block(kind: Kind, block: bytes) -> None:
    if (kind is NULLIFY) != (block == ZERO_HASH):
        raise InvalidInput(
            "a nullify vote has a zero block hash, and no other vote has",
            found=f"{kind.name} of {block.hex()[:16]}",
        )


def _check_epoch(found: int, epoch: Epoch) -> None:
    if found != epoch.number:
        raise InvalidInput("vote is of another epoch", found=found, expected=epoch.number)


def _vote_key(epoch: Epoch, member: int) -> PublicKey:
    if not 0 <= member < len(epoch.members):
        raise InvalidInput("vote is of no member", found=f"member {member}")
    return epoch.members[member].keys.vote
