"""The journal's records: what a crash may cut off, and what it may not."""

from __future__ import annotations

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


@pytest.mark.rule("F8")
def test_a_flipped_byte_before_a_mark_is_known_not_to_be_torn() -> None:
    data = frame((*VOTES, MARK), 0)
    for broken in flips(data, 0, len(frame(VOTES, 0))):
        with pytest.raises(Fatal, match="damaged in its middle"):
            read_journal(broken)


def test_a_flipped_byte_of_the_last_mark_costs_nothing_but_the_mark() -> None:
    data = frame((*VOTES, MARK), 0)
    for broken in flips(data, len(frame(VOTES, 0)), len(data)):
        found = read_journal(broken)
        assert (found.bodies, found.damaged) == (VOTES, False)


@pytest.mark.rule("F8")
def test_a_flipped_byte_of_a_batch_whose_mark_the_power_cut_took_is_told_from_a_torn_one() -> None:
    kept = (*VOTES[:2], MARK)
    for batch in (VOTES[2:], VOTES[2:3], VOTES[:1]):
        before = frame(kept, 0)
        data = before + frame(batch, len(kept))
        for broken in flips(data, len(before), len(data)):
            found = read_journal(broken)
            assert found.damaged
            assert found.bodies[: len(kept)] == kept


def test_a_batch_of_which_a_crash_left_the_first_bytes_is_torn() -> None:
    before = frame((*VOTES[:2], MARK), 0)
    data = before + frame(VOTES, 3)
    for end in range(len(before), len(data)):
        assert not read_journal(data[:end]).damaged


@pytest.mark.parametrize("sector", [512, 4096])
def test_a_batch_of_which_a_crash_left_any_of_its_sectors_is_torn(sector: int) -> None:
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
        assert not read_journal(bytes(left)).damaged


def test_promises_of_which_a_power_cut_left_the_later_ones_are_no_damage() -> None:
    synced = frame(VOTES[:2], 0)
    for lost in ([0], [1], [0, 1], [0, 2]):
        data = bytearray(synced + frame((MARK, MARK, MARK), 2))
        for number in lost:
            start = len(synced) + number * len(frame((MARK,), 0))
            data[start : start + len(frame((MARK,), 0))] = bytes(len(frame((MARK,), 0)))
        found = read_journal(bytes(data))
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
