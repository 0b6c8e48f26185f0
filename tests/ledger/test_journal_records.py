"""The journal's records: what a crash may cut off, and what it may not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise

import pytest
from stage import Stage

from tilth_ledger.blocks import FINALIZE, NOTARIZE, NULLIFY
from tilth_ledger.errors import Fatal, InvalidInput
from tilth_ledger.evidence import Evidence
from tilth_ledger.journal_records import (
    Accused,
    Forgotten,
    Held,
    OwnVote,
    Promised,
    Proven,
    Record,
    decode_record,
    frame,
    read_journal,
)


def examples() -> list[Record]:
    stage = Stage(4, away=[0, 1, 2, 3])
    block, _ = stage.block(1, ["a"])
    one, two = stage.vote(1, FINALIZE, 1, block.hash), stage.vote(1, NULLIFY, 1)
    return [
        OwnVote(one),
        Held(block),
        Proven(stage.certificate(NOTARIZE, 1, block.hash)),
        Promised(3, 2, 1),
        Forgotten(two),
        Accused(Evidence.of(one, two)),
    ]


RECORDS = examples()
BODIES = tuple(record.encode() for record in RECORDS)


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: type(r).__name__)
def test_a_record_comes_back_as_it_was(record: Record) -> None:
    assert decode_record(record.encode()) == record


def test_a_record_of_a_newer_release_is_refused_with_a_remedy() -> None:
    with pytest.raises(InvalidInput, match="newer release"):
        decode_record(b"\x63")


def test_a_journal_comes_back_and_goes_on_counting() -> None:
    data = frame(BODIES[:2], 0) + frame(BODIES[2:], 2)
    journal = read_journal(data)
    assert journal.bodies == BODIES
    assert (journal.good_bytes, journal.sequence) == (len(data), len(BODIES))


def test_wherever_a_crash_cuts_the_journal_whole_records_remain() -> None:
    data = frame(BODIES, 0)
    ends = [len(frame(BODIES[:count], 0)) for count in range(len(BODIES) + 1)]
    for cut in range(0, len(data), 7):
        journal = read_journal(data[:cut])
        assert journal.good_bytes == max(end for end in ends if end <= cut)
        assert BODIES[: len(journal.bodies)] == journal.bodies


ZEROS = bytes(5_000)  # written before they are needed
ENDS = pytest.mark.parametrize("behind", [b"", ZEROS], ids=["no zeros", "zeros"])


def test_zeros_behind_the_last_record_are_neither_torn_nor_damaged() -> None:
    for count in range(len(BODIES) + 1):
        data = frame(BODIES[:count], 0)
        found = read_journal(data + ZEROS)
        assert (found.bodies, found.good_bytes) == (BODIES[:count], len(data))
        assert (found.damaged, found.bad_bytes) == (False, 0)


@pytest.mark.rule("F8")
def test_a_changed_byte_of_the_zeros_is_no_lost_record() -> None:
    data = frame(VOTES, 0)
    for broken in flips(data + bytes(600), len(data), len(data) + 600):
        found = read_journal(broken)
        assert (found.bodies, found.damaged, found.bad_bytes > 0) == (VOTES, False, True)


def test_a_megabyte_of_zeros_is_read_in_no_time() -> None:
    data = frame(BODIES, 0)
    started = time.process_time()
    assert read_journal(data + bytes(1 << 20)).good_bytes == len(data)
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize("tail", [bytes(64), b"\xff" * 64, bytes(5_000)])
def test_garbage_after_the_last_record_is_a_torn_tail(tail: bytes) -> None:
    data = frame(BODIES, 0)
    assert read_journal(data + tail).good_bytes == len(data)


MARK = Promised(3, 2, 1).encode()
VOTES = tuple(body for body in BODIES if body != MARK)


def flips(data: bytes, first: int, last: int) -> Iterator[bytes]:
    for place in range(first, last):
        broken = bytearray(data)
        broken[place] ^= 1 << place % 8
        yield bytes(broken)


@ENDS
@pytest.mark.rule("F8")
def test_a_flipped_byte_before_a_mark_is_known_not_to_be_torn(behind: bytes) -> None:
    data = frame((*VOTES, MARK), 0)
    for broken in flips(data, 0, len(frame(VOTES, 0))):
        with pytest.raises(Fatal, match="damaged in its middle"):
            read_journal(broken + behind)


@ENDS
def test_a_flipped_byte_of_the_last_mark_costs_nothing_but_the_mark(behind: bytes) -> None:
    data = frame((*VOTES, MARK), 0)
    for broken in flips(data, len(frame(VOTES, 0)), len(data)):
        found = read_journal(broken + behind)
        assert (found.bodies, found.damaged) == (VOTES, False)


@ENDS
@pytest.mark.rule("F8")
def test_a_flipped_byte_of_a_batch_whose_mark_the_power_cut_took_is_told_from_a_torn_one(
    behind: bytes,
) -> None:
    kept = (*VOTES[:2], MARK)
    for batch in (VOTES[2:], VOTES[2:3], VOTES[:1]):
        before = frame(kept, 0)
        data = before + frame(batch, len(kept))
        for broken in flips(data, len(before), len(data)):
            found = read_journal(broken + behind)
            assert found.damaged
            assert found.bodies[: len(kept)] == kept


def test_a_batch_of_which_a_crash_left_the_first_bytes_is_torn() -> None:
    before = frame((*VOTES[:2], MARK), 0)
    data = before + frame(VOTES, 3)
    for end in range(len(before), len(data)):
        assert not read_journal(data[:end]).damaged


@ENDS
@pytest.mark.parametrize("sector", [512, 4096])
def test_a_batch_of_which_a_crash_left_any_of_its_sectors_is_torn(
    sector: int, behind: bytes
) -> None:
    before = frame((*VOTES[:2], MARK), 0)
    held = next(body for body in VOTES if body[0] == 2) + bytes(3 * sector)
    data = before + frame((*VOTES, held, *VOTES), 3)
    borders = [len(before), *range(sector, len(data), sector), len(data)]
    borders = sorted({at for at in borders if at >= len(before)})
    pieces = list(pairwise(borders))
    for lost in range(1, 1 << len(pieces)):
        left = bytearray(data)
        for number, (start, end) in enumerate(pieces):
            if lost >> number & 1:
                left[start:end] = bytes(end - start)
        assert not read_journal(bytes(left) + behind).damaged


@ENDS
def test_promises_of_which_a_power_cut_left_the_later_ones_are_no_damage(behind: bytes) -> None:
    synced = frame(VOTES[:2], 0)
    for lost in ([0], [1], [0, 1], [0, 2]):
        data = bytearray(synced + frame((MARK, MARK, MARK), 2))
        for number in lost:
            start = len(synced) + number * len(frame((MARK,), 0))
            data[start : start + len(frame((MARK,), 0))] = bytes(len(frame((MARK,), 0)))
        found = read_journal(bytes(data) + behind)
        assert (found.bodies[:2], found.damaged) == (VOTES[:2], False)


def test_a_promise_that_is_lost_before_a_batch_that_is_there_is_no_damage_before_the_next() -> None:
    synced, mark = frame(VOTES[:2], 0), len(frame((MARK,), 0))
    data = synced + bytes(mark) + frame(VOTES[2:], 3)
    found = read_journal(data)
    assert (found.bodies, found.damaged) == (VOTES[:2], False)
    with pytest.raises(Fatal):
        read_journal(data + frame((MARK,), 3 + len(VOTES[2:])))


def test_a_record_out_of_order_is_not_accepted() -> None:
    data = frame(BODIES[:1], 0) + frame(BODIES[2:3], 2)
    found = read_journal(data)
    assert (found.bodies, found.damaged) == (BODIES[:1], True)
    with pytest.raises(Fatal):
        read_journal(data + frame((MARK,), 3))
