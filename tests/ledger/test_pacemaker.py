"""Patience: when a view is given up, and how often a member repeats itself."""

from __future__ import annotations

import pytest

from tilth_ledger.pacemaker import MOST_DELTA_MS, MOST_RETRY_MS, Pacemaker


@pytest.fixture
def pace() -> Pacemaker:
    made = Pacemaker(me=0, members=3, q=2, base_delta_ms=300)
    made.start(1_000, 1)
    for member in (1, 2):
        made.connected(member)
    return made


def test_without_work_nothing_is_awaited_and_nothing_repeated(pace: Pacemaker) -> None:
    pace.note_work(1_000, work=False)
    pace.note_stuck(1_000, stuck=False)
    assert (pace.leader_ms(1), pace.advance_ms(), pace.retry_ms) == (None, None, None)


def test_the_leader_has_two_deltas_and_the_view_three_from_the_first_work(pace: Pacemaker) -> None:
    pace.note_work(5_000, work=True)
    pace.note_work(5_400, work=True)
    assert (pace.leader_ms(1), pace.advance_ms()) == (5_600, 5_900)


def test_delta_grows_by_half_per_nullified_view_to_a_cap_and_is_reset_by_finality(
    pace: Pacemaker,
) -> None:
    deltas = []
    for nullified in range(40):
        pace.nullified = nullified
        deltas.append(pace.delta_ms)
    assert deltas[:4] == [300, 450, 675, 1_012]
    assert deltas[-1] == MOST_DELTA_MS
    pace.finality(2_000)
    assert pace.delta_ms == 300


def test_a_leader_without_connection_is_not_awaited_while_a_quorum_is_there(
    pace: Pacemaker,
) -> None:
    pace.gone(1, 1_000)
    pace.note_work(5_000, work=True)
    assert pace.leader_ms(1) == 5_000
    assert pace.leader_ms(2) == 5_600
    pace.gone(2, 5_000)
    assert pace.leader_ms(1) == 5_600, "alone: nothing is gained by haste"


def test_a_connection_lost_a_moment_ago_is_no_reason_for_haste(pace: Pacemaker) -> None:
    pace.note_work(5_000, work=True)
    pace.gone(1, 5_000)
    assert pace.leader_ms(1) == 5_300


def test_ten_seconds_of_silence_during_work_are_a_reason_for_haste(pace: Pacemaker) -> None:
    pace.note_work(1_000, work=True)
    for now in range(1_000, 12_000, 500):
        pace.elapse(now)
        pace.heard(2)
    pace.enter(2, 12_000)
    assert pace.leader_ms(1) == 12_000
    assert pace.leader_ms(2) == 12_600
    pace.heard(1)
    assert pace.leader_ms(1) == 12_600


def test_silence_without_work_is_not_counted(pace: Pacemaker) -> None:
    pace.elapse(100_000)
    pace.note_work(100_000, work=True)
    assert pace.leader_ms(1) == 100_600


def test_repeating_backs_off_to_ten_seconds_and_starts_afresh_after_progress(
    pace: Pacemaker,
) -> None:
    now, waits = 1_000, []
    pace.note_stuck(now, stuck=True)
    for _ in range(20):
        assert pace.retry_ms is not None
        waits.append(pace.retry_ms - now)
        now = pace.retry_ms
        pace.retried(now)
    assert 600 <= waits[0] <= 750
    assert all(wait <= MOST_RETRY_MS * 5 // 4 for wait in waits)
    assert waits[-1] >= MOST_RETRY_MS
    pace.enter(2, now)
    assert pace.retry_ms is not None
    assert pace.retry_ms - now <= 750


def test_members_do_not_repeat_themselves_at_the_same_moment() -> None:
    moments = set()
    for me in range(7):
        pace = Pacemaker(me=me, members=7, q=4, base_delta_ms=300)
        pace.start(0, 1)
        pace.note_stuck(0, stuck=True)
        moments.add(pace.retry_ms)
    assert len(moments) >= 5
