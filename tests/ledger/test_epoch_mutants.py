"""Rules of epochs left out, one at a time: the scenario that guards each notices it, and only then.

A scenario says whether the ledger stayed what it must be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from members_world import MembersWorld, file_of
from rules_world import HOSPITALS
from stage import Stage

from tilth_ledger import blocks, execution, replica, restart, succession
from tilth_ledger.block_tree import BlockTree
from tilth_ledger.blocks import FINALIZE, NOTARIZE, NULLIFY, Certificate
from tilth_ledger.errors import Refused
from tilth_ledger.journal_records import Forgotten, OwnVote, frame
from tilth_ledger.messages import Certificates, Chain, Proposal, Status
from tilth_ledger.votes import VoteTable


def votes_of_an_old_epoch_end_no_view() -> bool:
    stage = Stage(3)
    stage.submit(0, "e epoch:q=2")
    stage.pass_ms(20_000)
    view = stage.replicas[0].view
    old = stage.certificate(NULLIFY, view, members=(1, 2))
    stage.play(1, 0, Certificates((old,)))
    return stage.replicas[0].view == view


def who_does_not_vote_counts_for_nothing() -> bool:
    stage = Stage(3, followers=1)
    votes = [stage.vote(member, NULLIFY, 1) for member in (1, 3)]
    stage.play(1, 0, Certificates((Certificate.of(votes, 3),)))
    return stage.replicas[0].view == 1


def an_epoch_ends_by_the_certificate_of_those_before() -> bool:
    stage = Stage(3, away=(0, 1))
    end, _ = stage.block(1, ["e epoch:remove=m1"])
    stage.play(0, 2, Status(1, 2, 2, 1, 1, 1, bytes(32), False, ()))
    stage.play(0, 2, Chain((end.encode(),), stage.certificate(FINALIZE, 1, end.hash, members=(0,))))
    return stage.replicas[2].epoch.number == 0


def a_block_holds_one_change() -> bool:
    world = MembersWorld(organizations=HOSPITALS[:1])
    executor, before = world.proposer
    state, body = before, []
    for number, label in enumerate(("first", "second")):
        change = {"kind": "rotate", "member": file_of("hospital-a", vote=f"{label} vote")}
        key = f"hospital-a/{number:032x}"
        operation = {"op": "member.propose", "key": key, "change": change, "q": 1, "k": 1}
        entry = world.entry("hospital-a", operation, role="admin")
        built = executor.build(state, [entry], world.time_ms + 1)
        state, body = built.state, [*body, *built.leaves]
    assert state.epoch == 2
    try:
        executor.execute(before, body, world.time_ms + 1)
    except Refused:
        return True
    return False


def only_empty_blocks_follow_the_end() -> bool:
    leader, second = (Stage(3).epoch.leader(view) for view in (1, 2))
    stage = Stage(3, away=(leader, second))
    [voter] = stage.replicas
    first, after = stage.block(1, ["e epoch:q=3"])
    stage.play(leader, voter, Proposal(stage.vote(leader, NOTARIZE, 1, first.hash), first))
    proof = stage.certificate(NOTARIZE, 1, first.hash)
    full, _ = stage.block(2, ["late"], parent=first, certificate=proof, state=after)
    stage.play(second, voter, Proposal(stage.vote(second, NOTARIZE, 2, full.hash), full))
    return (2, full.hash) not in stage.signed(voter, NOTARIZE)


def a_forgotten_vote_binds_its_key_in_every_epoch() -> bool:
    stage = Stage(3, followers=1)
    stage.crash(2)
    lost = Forgotten(stage.vote(2, NULLIFY, 1))
    stage.disks[2].journal, stage.disks[2].sequence = frame([lost.encode()], 0), 1
    stage.restart(2)
    stage.submit(0, "e epoch:add=m3;q=3")
    stage.pass_ms(20_000)
    return not stage.replicas[2].votes


def votes_of_a_later_epoch_than_the_store_s_are_kept() -> bool:
    stage = Stage(3)
    stage.crash(0)
    vote = OwnVote(replace(stage.vote(0, NULLIFY, 9), epoch=4))
    stage.disks[0].journal, stage.disks[0].sequence = frame([vote.encode()], 0), 1
    stage.restart(0)
    return vote in stage.replicas[0]._core.records()


def nobody_votes_in_an_epoch_unconfirmed() -> bool:
    stage = Stage(3)
    stage.submit(0, "e epoch:q=2")
    while stage.replicas[0].epoch.number == 0:
        stage.deliver_one()
    return not stage.replicas[0].votes


def anybody(epoch: Any, member: int) -> Any:
    return epoch.everyone()[member].keys.vote


def confirmed(standing: Any, old: Any) -> Any:
    """A successor that takes the old epoch's word for the new one."""
    core = SUCCESSOR(standing, old)
    core.confirmed = set(old.confirmed)
    return core


def current(record: Any, core: Any) -> int:
    """Every record is taken for one of the present epoch, but for those of later ones: dropped."""
    found = EPOCH_OF(record, core)
    return found if found <= core.epoch.number else -1


def of_its_vote(record: Any, core: Any) -> int:
    """A forgotten vote binds the epoch in which it was cast, whatever key signed it."""
    return record.vote.epoch if isinstance(record, Forgotten) else EPOCH_OF(record, core)


SUCCESSOR, EPOCH_OF = succession.Standing.successor, restart._epoch_of
Scenario = Callable[[], bool]
Without = tuple[Any, str, Any]  # place, name, what stands there instead
MUTANTS: dict[str, tuple[Scenario, tuple[Without, ...]]] = {
    "wrong epoch accepted": (
        votes_of_an_old_epoch_end_no_view,
        (
            (blocks, "_check_epoch", lambda found, epoch: None),
            (replica, "_other_epoch", lambda message, now: None),
        ),
    ),
    "non-members counted": (
        who_does_not_vote_counts_for_nothing,
        ((blocks, "_vote_key", anybody),),
    ),
    "the old members' certificate missing": (
        an_epoch_ends_by_the_certificate_of_those_before,
        ((VoteTable, "verify", lambda table, certificate: None),),
    ),
    "two changes in a block": (
        a_block_holds_one_change,
        ((execution, "_check_last", lambda block: None),),
    ),
    "leaves after an epoch's end": (
        only_empty_blocks_follow_the_end,
        ((BlockTree, "ends_epoch", lambda tree, state: False),),
    ),
    "a forgotten vote dropped with its epoch": (
        a_forgotten_vote_binds_its_key_in_every_epoch,
        ((restart, "_epoch_of", of_its_vote),),
    ),
    "records of a later epoch dropped": (
        votes_of_a_later_epoch_than_the_store_s_are_kept,
        ((restart, "_epoch_of", current),),
    ),
    "confirmed by the epoch before": (
        nobody_votes_in_an_epoch_unconfirmed,
        ((succession.Standing, "successor", confirmed),),
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_an_epoch_s_rule_left_out_is_noticed_and_only_then(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    holds, without = MUTANTS[name]
    assert holds()
    with monkeypatch.context() as patches:
        for place, what, other in without:
            patches.setattr(place, what, other)
        assert not holds()
    assert holds()
