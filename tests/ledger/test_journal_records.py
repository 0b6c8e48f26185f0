"""The journal's records: what a crash may cut off, and what it may not."""

from __future__ import annotations

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


def test_a_flipped_byte_before_a_good_record_is_fatal_and_in_the_last_one_a_torn_tail() -> None:
    data = frame(BODIES, 0)
    last = len(frame(BODIES[:-1], 0))
    for place in range(0, len(data), 5):
        broken = bytearray(data)
        broken[place] ^= 1
        if place >= last:
            assert read_journal(bytes(broken)).bodies == BODIES[:-1]
        else:
            with pytest.raises(Fatal, match="damaged in its middle"):
                read_journal(bytes(broken))


def test_a_record_out_of_order_is_not_accepted() -> None:
    data = frame(BODIES[:1], 0) + frame(BODIES[2:3], 2)
    with pytest.raises(Fatal):
        read_journal(data)
