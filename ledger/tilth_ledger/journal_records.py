"""Records of the journal: what a member must find again after a crash, beyond its final blocks.

A record on disk: length u32, sequence u64, first 16 bytes of SHA-256 over (length, sequence, body),
body. A body is one byte of kind and its content. The shell appends and replaces records as opaque
bytes; this module frames and reads them.

Invariants:
- A record is written once and never changed; sequence numbers rise by one from the first record.
- A bad record with nothing good after it is a torn tail: it was never promised, and is cut off.
  A bad record with a good one after it is corruption: `read_journal` raises `Fatal`.
- The `Promised` counters say how much the ledger store held when they were written: a store that
  holds less has lost data (F8).

Left to others: files, fsync, rename (the node's storage); when to write what (replica).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from tilth_ledger.blocks import Block, Certificate, Vote
from tilth_ledger.errors import Fatal, InvalidInput
from tilth_ledger.evidence import Evidence
from tilth_ledger.reader import Reader

MAX_RECORD_BYTES = 64 << 20

_HEAD = struct.Struct(">IQ16s")
_NUMBERS = struct.Struct(">IQ")
_PROMISED = struct.Struct(">QQQ")


@dataclass(frozen=True, slots=True)
class OwnVote:
    """A vote that I signed (F1, F2, F3)."""

    vote: Vote

    def encode(self) -> bytes:
        return b"\x01" + self.vote.encode()


@dataclass(frozen=True, slots=True)
class Held:
    """A block that I executed and voted for, or must be able to hand on."""

    block: Block

    def encode(self) -> bytes:
        return b"\x02" + self.block.encode()


@dataclass(frozen=True, slots=True)
class Proven:
    """A certificate above the finalized view."""

    certificate: Certificate

    def encode(self) -> bytes:
        return b"\x03" + self.certificate.encode()


@dataclass(frozen=True, slots=True)
class Promised:
    """What the ledger store holds for certain: finalized view, height, size of the tree."""

    view: int
    height: int
    size: int

    def encode(self) -> bytes:
        return b"\x04" + _PROMISED.pack(self.view, self.height, self.size)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Amnesia: a vote of mine that my record does not hold. I never vote again with this key."""

    vote: Vote

    def encode(self) -> bytes:
        return b"\x05" + self.vote.encode()


@dataclass(frozen=True, slots=True)
class Accused:
    """Evidence that was seen, until it stands on the ledger."""

    evidence: Evidence

    def encode(self) -> bytes:
        return b"\x06" + self.evidence.encode()


@dataclass(frozen=True, slots=True)
class Forked:
    """Two finality certificates that exclude each other: this member goes no further."""

    mine: Certificate
    theirs: Certificate

    def encode(self) -> bytes:
        return b"\x07" + self.mine.encode() + self.theirs.encode()


@dataclass(frozen=True, slots=True)
class Blank:
    """This journal began empty although the ledger did not (1), or every other member has shown
    since what it holds of me (0)."""

    blank: bool

    def encode(self) -> bytes:
        return b"\x08" + bytes((self.blank,))


Record = OwnVote | Held | Proven | Promised | Forgotten | Accused | Forked | Blank


def decode_record(body: bytes) -> Record:
    """The record in `body`; `InvalidInput` if it is none."""
    reader = Reader(body, "journal record")
    record = _read(reader.number(1), reader)
    reader.end()
    return record


def _read(kind: int, reader: Reader) -> Record:
    match kind:
        case 1:
            return OwnVote(Vote.read(reader))
        case 2:
            return Held(Block.decode(reader.take(reader.left)))
        case 3:
            return Proven(Certificate.read(reader))
        case 4:
            return Promised(*reader.unpack(_PROMISED))
        case 5:
            return Forgotten(Vote.read(reader))
        case 6:
            return Accused(Evidence.of(Vote.read(reader), Vote.read(reader)))
        case 7:
            return Forked(Certificate.read(reader), Certificate.read(reader))
        case 8:
            if (flag := reader.number(1)) > 1:
                raise InvalidInput("blank is neither 0 nor 1", found=flag)
            return Blank(bool(flag))
        case _:
            raise InvalidInput(
                "unknown journal record",
                found=f"kind {kind}",
                expected="1 to 8",
                remedy="A newer release wrote this journal: start that one.",
            )


def frame(bodies: Iterable[bytes], sequence: int) -> bytes:
    """Records as they stand on disk; the first gets this sequence number."""
    parts: list[bytes] = []
    for number, body in enumerate(bodies, sequence):
        parts += (_HEAD.pack(len(body), number, _checksum(number, body)), body)
    return b"".join(parts)


@dataclass(frozen=True, slots=True)
class Journal:
    """A journal as found: its records' bodies, and the bytes that are good."""

    bodies: tuple[bytes, ...]
    good_bytes: int

    @property
    def sequence(self) -> int:
        """The number of the next record."""
        return len(self.bodies)


def read_journal(data: bytes) -> Journal:
    """The good records at the front of `data`. Raises `Fatal` when a good record follows a bad one:
    then the journal lost something that it had promised to keep."""
    bodies: list[bytes] = []
    at = 0
    while (body := _record_at(data, at, len(bodies))) is not None:
        bodies.append(body)
        at += _HEAD.size + len(body)
    _check_tail(data, at, len(bodies))
    return Journal(tuple(bodies), at)


def _record_at(data: bytes, at: int, sequence: int) -> bytes | None:
    """The body of the good record at `at` with this number, or None."""
    if at + _HEAD.size > len(data):
        return None
    length, number, checksum = _HEAD.unpack_from(data, at)
    start = at + _HEAD.size
    if number != sequence or length > min(MAX_RECORD_BYTES, len(data) - start):
        return None
    body = data[start : start + length]
    return body if _checksum(number, body) == checksum else None


def _check_tail(data: bytes, at: int, sequence: int) -> None:
    """Look for a later record behind the first bad one, by its sequence number."""
    for later in range(sequence, sequence + 64):
        needle = struct.pack(">Q", later)
        found = data.find(needle, at)
        while found != -1:
            start = found - 4
            if start >= at and _record_at(data, start, later) is not None:
                raise Fatal(
                    "the journal is damaged in its middle",
                    found=f"a bad record at byte {at} and a good one at byte {start}",
                    expected="bad bytes at the end only, as a crash leaves them",
                    remedy="Keep the folder as it is; do not start it from an older copy.",
                )
            found = data.find(needle, found + 1)


def _checksum(number: int, body: bytes) -> bytes:
    return hashlib.sha256(_NUMBERS.pack(len(body), number) + body).digest()[:16]
