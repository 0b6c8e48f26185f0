"""Records of the journal: what a member must find again after a crash, beyond its final blocks.

A record on disk: length u32, sequence u64, first 16 bytes of SHA-256 over (length, sequence, body),
body. A body is one byte of kind and its content. The shell appends and replaces records as opaque
bytes; this module frames and reads them.

Invariants:
- A record is written once and never changed; sequence numbers rise by one from the first record.
- A batch of records is synced, and a `Promised` follows it, not synced itself. It says how much the
  ledger store held then: one that holds less has lost data (F8). And it says that all before it was
  synced: bad bytes with a promise behind them are damage, and `read_journal` raises `Fatal`,
  unless the bad ones were promises too, which no sync had covered yet.
- Behind the last record there may be zeros: the file is written before it is needed, so that a sync
  changes its bytes and not its size. They are no record, and nothing was lost with them.
- Bad bytes at the very end may be a batch that a crash tore, which was never promised, or the last
  one that was synced, damaged, when a power cut took the mark behind it. A crash leaves too few
  bytes, or whole sectors of zeros where something was to come; a changed byte leaves neither. So
  the end is told apart: *torn* is cut off, and what is *damaged* may have been votes that were
  sent. A member that finds this votes when every other one has shown what it holds of it.
- So what counts is whether the first bad record itself lacks a sector: where it ends, its own
  length says, or the good record behind it. A length that was changed is found out by its checksum.

Why that is enough: for a damaged end to pass as torn, power must fail in the moment between a sync
and the write of the mark to the disk (the kernel does it within seconds), and the very sectors of
that batch must be lost as well. Then q - 1 others are asked, as after any crash, and what they hold
of this member shows the loss; only votes that reached nobody who answers pass unseen.

Left to others: files, fsync, rename (the node's storage); when to write what (replica).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tilth_ledger.blocks import Block, Certificate, Vote
from tilth_ledger.errors import Fatal, InvalidInput
from tilth_ledger.evidence import Evidence
from tilth_ledger.reader import Reader

MAX_RECORD_BYTES = 64 << 20

_HEAD = struct.Struct(">IQ16s")
FRAME_BYTES = _HEAD.size  # around a body
SECTOR_BYTES = 512  # what a disk writes whole or not at all
FEWEST_ZEROS = 8  # no record begins with as many, and one changed byte does not make them
MOST_ZEROS = 32  # more than any record ends with: the promise of an empty ledger ends with 24
_NUMBERS = struct.Struct(">IQ")
_PROMISED = struct.Struct(">QQQ")
PROMISED_BYTES = 1 + _PROMISED.size
_PROMISE = b"\x04"
_MARK_BYTES = FRAME_BYTES + PROMISED_BYTES
_Later = tuple[int, int, bytes]


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
        return _PROMISE + _PROMISED.pack(self.view, self.height, self.size)


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
    """This journal began empty although the ledger did not, or was damaged at its end (1), or every
    other member has shown since what it holds of me (0)."""

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
    """A journal as found: its records' bodies, the bytes that are good, whether those behind them
    look like records that were complete once, and how many there are if they are not all zeros."""

    bodies: tuple[bytes, ...]
    good_bytes: int
    damaged: bool = False
    bad_bytes: int = 0

    @property
    def sequence(self) -> int:
        """The number of the next record."""
        return len(self.bodies)


def read_journal(data: bytes) -> Journal:
    """The good records at the front of `data`. Raises `Fatal` when a promise follows a bad one:
    then the journal lost something that it had promised to keep."""
    bodies: list[bytes] = []
    at = 0
    while (body := _record_at(data, at, len(bodies))) is not None:
        bodies.append(body)
        at += FRAME_BYTES + len(body)
    used = max(at, len(data.rstrip(b"\0")))
    later = list(_later_records(data, at, used, len(bodies)))
    if (promise := _proof_of_sync(at, len(bodies), later)) is not None:
        raise Fatal(
            "the journal is damaged in its middle",
            found=f"a bad record at byte {at} and a good one at byte {promise}",
            expected="bad bytes at the end only, as a crash leaves them",
            remedy="Keep the folder as it is; do not start it from an older copy.",
        )
    if used == at:
        return Journal(tuple(bodies), at)
    damaged = _is_damaged(data, at, used, len(bodies), later)
    return Journal(tuple(bodies), at, damaged, len(data) - at)


def _proof_of_sync(at: int, sequence: int, later: list[_Later]) -> int | None:
    """Where a promise stands that was written after a sync of what is bad. A promise itself is
    synced with the next batch: one behind nothing but promises proves nothing."""
    last, marks_only = at, True
    for start, number, body in later:
        marks_only = marks_only and start - last == (number - sequence) * _MARK_BYTES
        is_mark = body[:1] == _PROMISE
        if is_mark and not marks_only:
            return start
        marks_only = marks_only and is_mark
        last, sequence = start + FRAME_BYTES + len(body), number + 1
    return None


def _is_damaged(data: bytes, at: int, used: int, sequence: int, later: list[_Later]) -> bool:
    """Whether the bad bytes are more than what a crash leaves of batches that were not synced."""
    if FRAME_BYTES - data[at : at + FRAME_BYTES].count(0) <= 1:
        return False  # nothing came to be here: no record has so few, nor a changed byte more
    if all(body[:1] == _PROMISE for _, _, body in later) and later:
        return False  # promises alone were lost: see `_proof_of_sync`
    if later:
        return not _lacks_a_sector(data, at, later[0][0])
    return _was_complete(data, at, used, sequence)


def _record_at(data: bytes, at: int, sequence: int) -> bytes | None:
    """The body of the good record at `at` with this number, or None."""
    if at + FRAME_BYTES > len(data):
        return None
    length, number, checksum = _HEAD.unpack_from(data, at)
    start = at + FRAME_BYTES
    if number != sequence or length > min(MAX_RECORD_BYTES, len(data) - start):
        return None
    body = data[start : start + length]
    return body if _checksum(number, body) == checksum else None


def _was_complete(data: bytes, at: int, used: int, sequence: int) -> bool:
    """Whether the bad bytes behind `at`, of which those from `used` on are zeros, were a record of
    full length, and not a mark: that holds nothing that is missed when it is cut off."""
    body = at + FRAME_BYTES
    if body > len(data):
        return False
    length, _, checksum = _HEAD.unpack_from(data, at)
    for end in range(max(used, body), min(used + MOST_ZEROS, len(data)) + 1):
        if _checksum(sequence, data[body:end]) == checksum:  # its length was changed
            return end - at != _MARK_BYTES
    if length == _MARK_BYTES - FRAME_BYTES and used <= at + _MARK_BYTES:
        return False
    end = body + length
    return end <= len(data) and not _lacks_a_sector(data, at, end)


def _lacks_a_sector(data: bytes, start: int, end: int) -> bool:
    """Whether some sector in which bytes from `start` to `end` lie holds nothing but zeros from
    `start` on, unless that is less than a number; or more zeros end them than end a record."""
    if end - start > MOST_ZEROS and not any(data[end - MOST_ZEROS : end]):
        return True
    while start < end:
        border = min(start + SECTOR_BYTES - start % SECTOR_BYTES, len(data))
        if border - start >= FEWEST_ZEROS and not any(data[start:border]):
            return True
        start = border
    return False


def _later_records(data: bytes, at: int, used: int, sequence: int) -> Iterator[_Later]:
    """Good records behind the first bad one: where they stand, number and body. Behind `used` all
    is zeros, which no checksum is."""
    last = sequence + (used - at) // FRAME_BYTES
    for front in range(sequence >> 16, (last >> 16) + 1):
        needle = front.to_bytes(6)  # all but the last bytes of a number
        found = data.find(needle, at, used)
        while found != -1:
            start, number = found - 4, int.from_bytes(data[found : found + 8])
            if start >= at and sequence <= number <= last:
                body = _record_at(data, start, number)
                if body is not None:
                    yield start, number, body
            found = data.find(needle, found + 1, used)


def _checksum(number: int, body: bytes) -> bytes:
    return hashlib.sha256(_NUMBERS.pack(len(body), number) + body).digest()[:16]
