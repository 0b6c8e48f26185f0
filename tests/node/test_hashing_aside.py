"""The set hash that a second process computes is the one that this process would compute."""

import os
import signal
import sys

import pytest
from audited_chain import Chain
from hypothesis import given
from hypothesis import strategies as st

from tilth_ledger.audit import Audit
from tilth_ledger.errors import InvalidInput, Unavailable
from tilth_ledger.findings import Report
from tilth_ledger.lthash import LtHash
from tilth_node.hashing_aside import MOST_WAITING, Aside, read_rows, write_rows

rows = st.lists(st.tuples(st.text(max_size=6), st.binary(max_size=20)), max_size=4)


@given(rows, rows)
def test_rows_come_over_as_they_were_sent(
    old: list[tuple[str, bytes]], new: list[tuple[str, bytes]]
) -> None:
    assert read_rows(write_rows(old, new)) == (old, new)


@given(rows, rows, st.data())
def test_rows_that_are_cut_or_changed_read_or_are_refused(
    old: list[tuple[str, bytes]], new: list[tuple[str, bytes]], data: st.DataObject
) -> None:
    whole = bytearray(write_rows(old, new))
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    for damaged in (bytes(whole), bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])):
        try:
            read_rows(damaged)
        except InvalidInput:
            continue


def test_it_gives_the_same_sums_however_late_they_are_asked_for() -> None:
    changes = [
        ([(f"row/{n - 1}", b"old")] if n % 3 == 2 else [], [(f"row/{n}", b"old"), (f"x/{n}", b"")])
        for n in range(3 * MOST_WAITING)
    ]
    here = [LtHash().add("first", b"row")]
    with Aside() as aside:
        there = [aside.follow(here[0])]
        for old, new in changes:
            here.append(here[-1].replace(old, new))
            there.append(there[-1].replace(old, new))
        twice = there[5].replace((), changes[5][1])  # a second one that goes on from there

        assert [total.digest() for total in there] == [total.digest() for total in here]
        assert [total.state for total in there] == [total.state for total in here]
        assert twice.state == here[5].replace((), changes[5][1]).state


def test_a_process_that_is_killed_gives_an_error_and_no_digest() -> None:
    with Aside() as aside:
        os.kill(aside.pid, signal.SIGKILL)
        with pytest.raises(Unavailable, match=r"hashing_aside ended with exit code -9"):
            aside.follow(LtHash()).replace((), [("a", b"1")]).digest()
    with pytest.raises(ProcessLookupError):
        os.kill(aside.pid, 0)


def test_a_process_that_says_nothing_gives_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/true")
    with Aside() as aside, pytest.raises(Unavailable, match="ended early"):
        aside.follow(LtHash()).replace((), [("a", b"1")]).digest()


def test_an_audit_whose_hashing_dies_says_so_and_accuses_no_block() -> None:
    chain = Chain()
    dataset = chain.dataset("hospital-a")
    for _ in range(MOST_WAITING + 3):  # the first sums are asked for while blocks execute
        chain.samples(dataset, "train", 1)

    def audited(aside: Aside) -> Report:
        auditor = Audit(chain.genesis, aside.follow)
        for _ in auditor.follow(chain.stored()):
            continue
        return auditor.finish(chain.beside())

    with Aside() as aside:
        assert audited(aside).clean
    with Aside() as aside:
        os.kill(aside.pid, signal.SIGKILL)
        with pytest.raises(Unavailable, match="ended early"):
            audited(aside)
