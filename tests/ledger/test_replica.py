"""The replica as readable scenarios: the happy path, absence, crashes, catching up, silence."""

from __future__ import annotations

import pytest
from number_ledger import write_leaf
from stage import Stage

from tilth_ledger.blocks import FINALIZE, NOTARIZE, NULLIFY
from tilth_ledger.effects import Received, Submitted, Tick
from tilth_ledger.leaf import leaf_id
from tilth_ledger.messages import Chain, FetchChain, Gossip, Proposal, Status, Votes


@pytest.mark.rule("V2")
@pytest.mark.rule("V5")
@pytest.mark.parametrize("n", [1, 2, 3, 4, 7])
def test_a_submitted_leaf_becomes_final_everywhere_without_a_timer(n: int) -> None:
    stage = Stage(n)
    stage.submit(0, "a")
    stage.settle()
    assert [stage.texts(m) for m in range(n)] == [["a"]] * n


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7])
def test_nothing_is_said_and_no_timer_is_set_without_work(n: int) -> None:
    stage = Stage(n)
    stage.submit(n - 1, "a")
    stage.pass_ms(60_000)
    said = len(stage.sent)
    assert stage.is_silent()
    stage.pass_ms(3_600_000)
    assert len(stage.sent) == said


def test_the_happy_path_makes_no_empty_block() -> None:
    stage = Stage(3)
    for number in range(6):
        stage.submit(number % 3, f"leaf {number}")
        stage.settle()
    stage.pass_ms(60_000)
    assert stage.heights() == [6, 6, 6]


@pytest.mark.rule("F2")
@pytest.mark.rule("F9")
def test_finality_takes_three_syncs_one_after_the_other() -> None:
    stage = Stage(3)
    leader = stage.epoch.leader(1)
    effects = stage.step(leader, [Submitted(write_leaf("a"))])
    assert effects.persist
    assert not effects.finalized
    proposal = next(s.message for s in effects.send if isinstance(s.message, Proposal))
    follower = next(m for m in range(3) if m != leader)
    stage.drop_messages()
    answer = stage.step(follower, [Received(leader, proposal)])
    kinds = {v.kind for s in answer.send if isinstance(s.message, Votes) for v in s.message.votes}
    assert kinds == {NOTARIZE, FINALIZE}
    votes = next(s.message for s in answer.send if isinstance(s.message, Votes))
    last = stage.step(leader, [Received(follower, votes)])
    assert len(last.finalized) == 1
    assert not last.persist, "the ledger store's transaction is the third sync"


@pytest.mark.rule("F9")
def test_everything_of_one_turn_goes_into_one_block() -> None:
    stage = Stage(3)
    stage.submit(stage.epoch.leader(1), *(f"leaf {n}" for n in range(100)))
    stage.settle()
    assert stage.heights() == [1, 1, 1]
    assert len(stage.texts(2)) == 100


@pytest.mark.rule("V3")
@pytest.mark.rule("V4")
@pytest.mark.parametrize("absent", [0, 1, 2])
def test_three_members_go_on_without_any_one(absent: int) -> None:
    stage = Stage(3)
    stage.crash(absent)
    others = [m for m in range(3) if m != absent]
    for number in range(5):
        stage.submit(others[number % 2], f"leaf {number}")
        stage.pass_ms(10_000)
    assert [len(stage.texts(m)) for m in others] == [5, 5]
    stage.restart(absent)
    stage.pass_ms(10_000)
    assert stage.texts(absent) == stage.texts(others[0])


def test_two_members_wait_for_each_other_and_lose_nothing() -> None:
    stage = Stage(2)
    stage.crash(1)
    stage.submit(0, "a")
    stage.pass_ms(120_000)
    assert stage.texts(0) == []
    stage.restart(1)
    stage.pass_ms(60_000)
    assert stage.texts(0) == stage.texts(1) == ["a"]


def test_an_absent_leader_that_is_known_to_be_gone_costs_no_patience() -> None:
    stage = Stage(3)
    stage.crash(stage.epoch.leader(1))
    stage.pass_ms(1_000)
    here = sorted(stage.replicas)
    began = stage.now
    stage.submit(here[0], "a")
    stage.settle()
    assert stage.texts(here[0]) == ["a"]
    assert stage.now == began


def test_a_silent_leader_that_is_still_connected_costs_two_deltas() -> None:
    stage = Stage(3)
    stage.isolate(stage.epoch.leader(1))
    here = [m for m in range(3) if m != stage.epoch.leader(1)]
    stage.submit(here[0], "a")
    stage.pass_ms(599)
    assert stage.texts(here[0]) == []
    stage.pass_ms(200)
    assert stage.texts(here[0]) == ["a"]


def test_a_leader_that_was_silent_for_ten_seconds_of_work_is_not_waited_for() -> None:
    stage = Stage(3)
    stage.isolate(0)
    for number in range(60):
        stage.submit(1 + number % 2, f"leaf {number}")
        stage.pass_ms(5_000)
    began = stage.now
    for number in range(3):
        stage.submit(1, f"later {number}")
        stage.settle()
        stage.pass_ms(1)
    assert len(stage.texts(1)) == 63
    assert stage.now - began < 10


@pytest.mark.rule("F1")
@pytest.mark.rule("F2")
@pytest.mark.rule("F3")
@pytest.mark.parametrize("n", [1, 3, 4])
def test_a_crash_after_every_step_loses_no_vote_and_repeats_none(n: int) -> None:
    stage = Stage(n)
    for number in range(4):
        stage.submit(number % n, f"leaf {number}")
        for member in range(n):
            stage.crash(member)
            stage.restart(member)
        stage.pass_ms(30_000)
    stage.submit(0, *(f"leaf {number}" for number in range(4)))
    stage.pass_ms(60_000)
    assert sorted(stage.texts(0)) == [f"leaf {number}" for number in range(4)]
    assert not any(a.kind != "peer" for alarms in stage.alarms.values() for a in alarms)


def test_all_members_may_crash_at_once_and_start_again() -> None:
    """commonware #4275: votes from before the crash count again, and are sent again."""
    stage = Stage(3)
    stage.submit(0, "a")
    stage.drop_messages()
    stage.submit(stage.epoch.leader(1), "b")
    stage.drop_messages()
    for member in range(3):
        stage.crash(member)
    for member in range(3):
        stage.restart(member)
    stage.pass_ms(60_000)
    stage.submit(0, "a", "b")
    stage.pass_ms(60_000)
    assert sorted(stage.texts(0)) == sorted(stage.texts(2)) == ["a", "b"]


def test_a_member_cut_off_before_an_idle_spell_learns_what_it_missed() -> None:
    stage = Stage(3)
    stage.isolate(2)
    stage.submit(0, "a")
    stage.pass_ms(60_000)
    assert stage.heights()[2] == 0
    stage.mend()
    stage.settle()
    assert stage.texts(2) == ["a"]


def test_a_member_far_behind_fetches_final_blocks_in_batches() -> None:
    stage = Stage(3)
    stage.crash(2)
    stage.pass_ms(1_000)
    for number in range(600):
        stage.submit(number % 2, f"leaf {number}")
        stage.settle()
    stage.restart(2)
    stage.settle()
    assert stage.heights()[2] == stage.heights()[0]
    chains = [m for _, to, m in stage.sent if to == 2 and isinstance(m, Chain)]
    assert 2 < len(chains) < 10


@pytest.mark.rule("V5")
def test_final_blocks_that_do_not_link_are_refused_by_the_one_who_catches_up() -> None:
    stage = Stage(3, away=[0, 1])
    first, state = stage.block(1, ["a"])
    notarized = stage.certificate(NOTARIZE, 1, first.hash)
    second, _ = stage.block(2, ["b"], first, notarized, state=state)
    final = stage.certificate(FINALIZE, 2, second.hash)
    stage.play(0, 2, Status(0, 3, 3, 2, 2, 2, bytes(32), False, ()))
    assert any(isinstance(m, FetchChain) for _, _, m in stage.sent)
    stage.play(0, 2, Chain((second.encode(),), final))
    assert stage.heights()[2] == 0
    assert "leave a gap" in stage.alarms[2][-1].message


@pytest.mark.rule("V5")
def test_final_blocks_that_link_are_applied_by_the_one_who_catches_up() -> None:
    stage = Stage(3, away=[0, 1])
    first, state = stage.block(1, ["a"])
    notarized = stage.certificate(NOTARIZE, 1, first.hash)
    second, _ = stage.block(2, ["b"], first, notarized, state=state)
    final = stage.certificate(FINALIZE, 2, second.hash)
    stage.play(0, 2, Status(0, 3, 3, 2, 2, 2, bytes(32), False, ()))
    stage.play(0, 2, Chain((first.encode(), second.encode()), final))
    assert stage.texts(2) == ["a", "b"]


def test_a_leaf_that_does_not_execute_is_refused_to_its_submitter_and_never_proposed() -> None:
    stage = Stage(3)
    stage.submit(0, "x bad")
    stage.pass_ms(60_000)
    assert stage.heights() == [0, 0, 0]
    assert [name for name, _ in stage.refused[0]] == [leaf_id(write_leaf("x bad"))]
    assert stage.refused[1] == []
    assert stage.is_silent()


def test_a_leaf_submitted_twice_is_final_once() -> None:
    stage = Stage(3)
    stage.submit(0, "a")
    stage.submit(1, "a")
    stage.settle()
    stage.submit(2, "a")
    stage.pass_ms(60_000)
    assert stage.texts(0) == ["a"]


def test_a_leaf_waits_for_the_unfinal_block_that_it_needs() -> None:
    stage = Stage(3)
    stage.submit(stage.epoch.leader(1), "first")
    stage.submit(stage.epoch.leader(2), "second needs:first")
    stage.pass_ms(60_000)
    assert stage.texts(0) == ["first", "second needs:first"]


def test_a_full_pool_refuses_with_a_remedy() -> None:
    stage = Stage(3)
    stage.crash(1)
    stage.crash(2)
    for start in range(0, 17_000, 1_000):
        stage.submit(0, *(f"leaf {n}" for n in range(start, start + 1_000)))
    _, error = stage.refused[0][0]
    assert "too many entries" in str(error)
    assert stage.replicas[0].pending == 16_384


def test_gossip_of_garbage_harms_nobody() -> None:
    stage = Stage(3, away=[2])
    stage.play(2, 0, Gossip((b"garbage",)))
    stage.submit(0, "a")
    stage.pass_ms(60_000)
    assert stage.texts(0) == stage.texts(1) == ["a"]
    assert stage.alarms[0][0].kind == "peer"


@pytest.mark.rule("V1")
def test_a_leader_with_a_clock_far_ahead_is_not_followed() -> None:
    stage = Stage(3, away=[1])
    block, _ = stage.block(1, ["a"], time_ms=1_700_000_000_000 + 10_001)
    proposal = Proposal(stage.vote(1, NOTARIZE, 1, block.hash), block)
    stage.play(1, 0, proposal)
    assert stage.signed(0, NOTARIZE) == set()
    assert stage.signed(0, NULLIFY) == {(1, bytes(32))}


@pytest.mark.rule("V1")
def test_a_leader_with_a_clock_a_little_ahead_is_followed() -> None:
    stage = Stage(3, away=[1])
    block, _ = stage.block(1, ["a"], time_ms=1_700_000_000_000 + 9_999)
    stage.play(1, 0, Proposal(stage.vote(1, NOTARIZE, 1, block.hash), block))
    assert stage.signed(0, NOTARIZE) == {(1, block.hash)}


def test_a_leader_with_a_clock_far_behind_is_not_followed() -> None:
    """After an idle spell it could record what expired meanwhile, in a time before that."""
    stage = Stage(3, away=[1])
    block, _ = stage.block(1, ["a"], time_ms=1_700_000_000_000 - 600_001)
    stage.play(1, 0, Proposal(stage.vote(1, NOTARIZE, 1, block.hash), block))
    assert stage.signed(0, NOTARIZE) == set()
    assert stage.signed(0, NULLIFY) == {(1, bytes(32))}


def test_a_leader_with_a_clock_a_little_behind_is_followed() -> None:
    stage = Stage(3, away=[1])
    block, _ = stage.block(1, ["a"], time_ms=1_700_000_000_000 - 599_000)
    stage.play(1, 0, Proposal(stage.vote(1, NOTARIZE, 1, block.hash), block))
    assert stage.signed(0, NOTARIZE) == {(1, block.hash)}


@pytest.mark.rule("V3")
def test_a_leader_that_gives_its_view_up_is_not_waited_for() -> None:
    stage = Stage(3, away=[1])
    stage.play(1, 0, Votes((stage.vote(1, NULLIFY, 1),)))
    assert (1, bytes(32)) in stage.signed(0, NULLIFY)


def test_a_late_timer_is_harmless() -> None:
    stage = Stage(3)
    stage.submit(0, "a")
    stage.settle()
    assert stage.step(0, [Tick()]).send == ()


@pytest.mark.parametrize(
    ("n", "cuts"), [(3, [(0, 2)]), (4, [(0, 2), (1, 3)]), (7, [(0, 3), (1, 4)])]
)
def test_members_without_a_link_between_them_go_on_through_the_others(
    n: int, cuts: list[tuple[int, int]]
) -> None:
    stage = Stage(n)
    for a, b in cuts:
        stage.cut(a, b)
    for number in range(2 * n):
        stage.submit(number % n, f"leaf {number}")
        stage.pass_ms(20_000)
    assert [len(stage.texts(member)) for member in range(n)] == [2 * n] * n
    assert stage.is_silent()


def test_one_who_was_being_helped_to_catch_up_asks_the_next_when_the_helper_dies() -> None:
    stage = Stage(3)
    stage.crash(2)
    stage.pass_ms(1_000)
    stage.submit(0, "a")
    stage.settle()
    stage.restart(2)
    while not any(to == 0 and isinstance(m, FetchChain) for _, to, m in stage.sent):
        stage.deliver_one()
    stage.crash(0)
    stage.settle()
    assert stage.texts(2) == ["a"]


def test_a_member_does_not_run_through_views_that_are_given_up_one_after_the_other() -> None:
    stage = Stage(3, away=[0, 1])
    for view in range(1, 200):
        leader = stage.epoch.leader(view)
        for member in (0, 1) if leader == 2 else (leader,):
            stage.play(member, 2, Votes((stage.vote(member, NULLIFY, view),)))
        if stage.replicas[2].view == view:
            break
    hasty = len(stage.signed(2, NULLIFY))
    assert 6 < hasty <= 12
    stage.pass_ms(60_000)
    assert len(stage.signed(2, NULLIFY)) == hasty + 1


def test_two_members_behind_firewalls_that_see_only_the_third_lose_no_time() -> None:
    stage = Stage(3)
    stage.part(0, 2)
    for number in range(6):
        stage.submit(1, f"leaf {number}")
        stage.settle()
    assert [len(stage.texts(member)) for member in range(3)] == [6, 6, 6]
    assert stage.now == 0


def test_unanimity_needs_no_direct_link_and_no_time_either() -> None:
    stage = Stage(3, q=3)
    stage.part(0, 2)
    began = stage.now
    stage.submit(1, "a")
    stage.settle()
    assert [stage.texts(member) for member in range(3)] == [["a"]] * 3
    assert stage.now == began
