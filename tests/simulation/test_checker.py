"""The checker accepts a history as it happened, and none in which one thing is otherwise: every
invariant has its negative twin here, or is named in the README beside the mutant that it notices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from checker import Checker, Violation
from number_ledger import Numbers, write_leaf
from stage import Stage

from tilth_ledger.blocks import FINALIZE, NOTARIZE, NULLIFY, Block, Certificate, Kind
from tilth_ledger.effects import Effects, Finalized
from tilth_ledger.errors import InvalidInput, TilthError
from tilth_ledger.evidence import Evidence
from tilth_ledger.journal_records import Held, OwnVote, Proven, decode_record
from tilth_ledger.leaf import leaf_id
from tilth_ledger.messages import Certificates, Status, Votes

BLOCK = b"b" * 32


@dataclass
class History:
    """What three honest members and a follower did, and a checker that has seen none of it."""

    stage: Stage

    def checker(self, honest: tuple[int, ...] = (0, 1, 2, 3)) -> Checker:
        return Checker(self.stage.genesis, frozenset(honest), strict=True)

    def replay(
        self,
        checker: Checker,
        doctor: Callable[[int, Effects], Effects] = lambda member, effects: effects,
    ) -> Checker:
        """Show all steps in order, each perhaps changed."""
        heights = dict.fromkeys(range(4), 0)
        for member, done in self.stage.effects:
            effects = doctor(member, done)
            checker.durable(member, effects, self.stage.epoch)
            if effects.finalized:
                checker.finalized(member, effects, heights[member] + 1)
                heights[member] += len(effects.finalized)
                for final in effects.finalized:
                    for index, leaf in enumerate(final.block.leaves):
                        checker.acknowledge(leaf_id(leaf), index + before(final.block))
            for send in effects.send:
                checker.released(member, send.message, self.stage.epoch)
        return checker

    @property
    def blocks(self) -> list[Block]:
        return self.stage.disks[0].archive.blocks

    def votes(self, kind: Kind, view: int, block: bytes, *members: int) -> Certificates:
        return Certificates((self.stage.certificate(kind, view, block, members),))


def before(block: Block) -> int:
    """The index of a block's first leaf."""
    return block.header.size - block.header.leaf_count


@pytest.fixture
def history() -> History:
    stage = Stage(3, followers=1)
    for text in ("a", "b", "c"):
        stage.submit(0, text)
        stage.settle()
    stage.submit(3, "d")
    stage.pass_ms(10_000)
    return History(stage)


def final(block: Block, state: Numbers, proof: Certificate) -> Effects:
    return Effects(finalized=(Finalized(block, state, proof),))


def other_finality(history: History, block: Block, state: Numbers) -> Effects:
    """Any block, made final by traitors."""
    proof = history.stage.certificate(FINALIZE, block.header.view, block.hash, [1, 2])
    return final(block, state, proof)


def test_what_happened_holds(history: History) -> None:
    checker = history.replay(history.checker())
    submitted = {text: leaf_id(write_leaf(text)) for text in "abcd"}
    state = history.stage.disks[0].archive.state
    checker.finish(submitted, state)
    checker.read(0, state)
    checker.cosigns(0, state.size, state.root)
    checker.whole_chain(0, history.blocks)
    assert len(checker.chain) == len(history.blocks) > 3


def test_two_members_may_not_hold_different_blocks_of_a_height(history: History) -> None:
    other, state = history.stage.block(1, ["x"])
    checker = history.replay(history.checker(honest=(0, 3)))
    with pytest.raises(Violation, match="two blocks are final at height 1"):
        checker.finalized(0, other_finality(history, other, state), 1)


def test_a_final_block_may_not_leave_its_parent_out(history: History) -> None:
    first, state = history.stage.block(1, ["x"])
    second, after = history.stage.block(2, ["y"], first, state=state)
    checker = history.checker(honest=(0,))
    with pytest.raises(Violation, match="leaves a gap"):
        checker.finalized(0, other_finality(history, second, after), 2)
    checker.finalized(0, other_finality(history, first, state), 1)
    elsewhere = replace(second, header=replace(second.header, parent=BLOCK))
    with pytest.raises(Violation, match="does not link"):
        checker.finalized(0, other_finality(history, elsewhere, after), 2)


def test_a_final_block_may_not_skip_a_view_without_proof(history: History) -> None:
    proof = history.stage.certificate(NULLIFY, 1, members=[1, 2])
    bare, state = history.stage.block(2, ["x"])
    with pytest.raises(InvalidInput, match="skip proofs"):
        history.checker((0,)).finalized(0, other_finality(history, bare, state), 1)
    good, state = history.stage.block(2, ["x"], skips=[proof])
    history.checker((0,)).finalized(0, other_finality(history, good, state), 1)


def test_a_final_block_may_not_state_another_outcome(history: History) -> None:
    block, state = history.stage.block(1, ["x"])
    for lie in ({"root": BLOCK}, {"state": BLOCK}, {"size": 7}):
        liar = replace(block, header=replace(block.header, **lie))
        with pytest.raises(Violation, match="states what is not so"):
            history.checker((0,)).finalized(0, other_finality(history, liar, state), 1)


def test_a_leaf_may_not_be_final_twice(history: History) -> None:
    first, state = history.stage.block(1, ["x"])
    proof = history.stage.certificate(NOTARIZE, 1, first.hash, [1, 2])
    second, _ = history.stage.block(2, ["y"], first, proof, state=state)
    twice = replace(second, leaves=first.leaves)
    checker = history.checker((0,))
    checker.finalized(0, other_finality(history, first, state), 1)
    with pytest.raises((Violation, TilthError)):
        checker.finalized(0, other_finality(history, twice, state), 2)


def test_a_view_may_not_have_two_notarizations(history: History) -> None:
    checker = history.replay(history.checker((0, 3)))
    view = history.blocks[0].header.view
    with pytest.raises(Violation, match="two NOTARIZE certificates"):
        checker.released(0, history.votes(NOTARIZE, view, BLOCK, 1, 2), history.stage.epoch)


def test_a_view_may_not_be_final_and_nullified(history: History) -> None:
    checker = history.replay(history.checker((0, 3)))
    view = history.blocks[0].header.view
    with pytest.raises(Violation, match="finality certificate and a nullification"):
        checker.released(0, history.votes(NULLIFY, view, bytes(32), 1, 2), history.stage.epoch)


def test_what_is_final_was_notarized(history: History) -> None:
    with pytest.raises(Violation, match="no notarization"):
        history.checker().released(2, history.votes(FINALIZE, 9, BLOCK, 0, 1), history.stage.epoch)


def test_a_certificate_needs_q_members_of_its_epoch(history: History) -> None:
    few = history.stage.certificate(NULLIFY, 9, members=[1])
    foreign = replace(few, epoch=1)
    checker = history.checker()
    with pytest.raises(InvalidInput, match="too few votes"):
        checker.released(0, Certificates((few,)), history.stage.epoch)
    with pytest.raises(Violation, match="never began"):
        checker.released(0, Certificates((foreign,)), history.stage.epoch)


@pytest.mark.parametrize("across_a_crash", [False, True])
def test_an_honest_key_may_not_sign_what_excludes_itself(
    history: History, across_a_crash: bool
) -> None:
    checker = history.replay(history.checker())
    block = history.blocks[0]
    if across_a_crash:
        checker.found(1, [])
    vote = history.stage.vote(1, NULLIFY, block.header.view)
    with pytest.raises(Violation, match="exclude each other"):
        checker.released(1, Votes((vote,)), history.stage.epoch)


def test_a_traitor_may(history: History) -> None:
    checker = history.replay(history.checker((0, 2, 3)))
    vote = history.stage.vote(1, NULLIFY, history.blocks[0].header.view)
    checker.released(1, Votes((vote,)), history.stage.epoch)


@pytest.mark.rule("F1")
@pytest.mark.rule("F2")
@pytest.mark.rule("F3")
@pytest.mark.parametrize(
    ("left_out", "what"),
    [
        (OwnVote, "before it was durable"),
        (Held, "not on its disk"),
        (Proven, "without proof of notarization"),
    ],
)
def test_a_vote_may_not_leave_before_what_it_promises(
    history: History, left_out: type, what: str
) -> None:
    def forget(member: int, effects: Effects) -> Effects:
        kept = [b for b in effects.persist if not isinstance(decode_record(b), left_out)]
        return replace(effects, persist=tuple(kept), finalized=())

    with pytest.raises(Violation, match=what):
        history.replay(history.checker(), forget)


def test_an_acknowledged_leaf_may_not_move(history: History) -> None:
    checker = history.replay(history.checker())
    name = leaf_id(history.blocks[1].leaves[0])
    index = before(history.blocks[1])
    checker.acknowledge(name, index)
    with pytest.raises(Violation, match="was acknowledged at"):
        checker.acknowledge(name, index + 1)


def test_cosigned_heads_are_final_and_grow(history: History) -> None:
    checker = history.replay(history.checker())
    newer, older = history.blocks[2].header, history.blocks[1].header
    checker.cosigns(1, newer.size, newer.root)
    with pytest.raises(Violation, match="which no final block has"):
        checker.cosigns(2, newer.size, BLOCK)
    with pytest.raises(Violation, match="cosigned size"):
        checker.cosigns(1, older.size, older.root)
    checker.cosigns(2, older.size, older.root)


def test_what_is_read_is_a_prefix_and_never_shrinks(history: History) -> None:
    checker = history.replay(history.checker())
    now = history.stage.disks[0].archive.state
    checker.read(0, now)
    with pytest.raises(Violation, match="shrank"):
        checker.read(0, Numbers())
    with pytest.raises(Violation, match="not final"):
        checker.read(1, replace(now, root=BLOCK))


def test_a_reader_may_not_miss_what_was_acknowledged_before_it_asked(history: History) -> None:
    checker = history.replay(history.checker())
    checker.asked(BLOCK[:16])
    listing = replace(history.blocks[0].justification, barriers=(BLOCK[:16],))
    with pytest.raises(Violation, match="reads at"):
        checker.answered(0, replace(history.blocks[0], justification=listing))
    checker.answered(0, replace(history.blocks[-1], justification=listing))


def test_stored_bytes_are_those_of_all(history: History) -> None:
    checker = history.replay(history.checker())
    spoilt = [*history.blocks[:-1], replace(history.blocks[-1], leaves=(b"x",))]
    with pytest.raises(Violation, match="stores other bytes"):
        checker.whole_chain(0, spoilt)
    with pytest.raises(Violation, match="stores another block"):
        checker.same_chain(0, [history.stage.block(1, ["x"])[0]])


def test_memory_and_journal_are_bounded(history: History) -> None:
    checker, held = history.checker(), {"views": 10, "blocks": 10, "leaves": 0}
    checker.memory(0, held, 5, 1_000)
    for more, journal in (({"views": 2_000}, 0), ({"blocks": 9_000}, 0), ({}, 64 << 20)):
        with pytest.raises(Violation):
            checker.memory(0, held | more, 5, journal)


def test_evidence_that_was_seen_is_recorded_and_names_nobody_honest(history: History) -> None:
    vote = history.stage.vote
    pair = Evidence.of(vote(1, FINALIZE, 9, BLOCK), vote(1, NULLIFY, 9))
    checker = history.replay(history.checker((0, 2, 3)))
    state = history.stage.disks[0].archive.state
    checker.accused.add(pair.name)
    with pytest.raises(Violation, match="is not recorded"):
        checker.finish({}, state)
    recorded = replace(state, evidence=frozenset({pair.name}))
    checker.finish({}, recorded)
    with pytest.raises(Violation, match="honest members stand accused"):
        history.replay(history.checker()).finish({}, recorded)


def test_a_leaf_is_final_or_refused_in_the_end(history: History) -> None:
    checker = history.replay(history.checker())
    state = history.stage.disks[0].archive.state
    with pytest.raises(Violation, match="neither final nor refused"):
        checker.finish({"lost": leaf_id(write_leaf("lost"))}, state)
    checker.finish({"never bad": leaf_id(write_leaf("never bad"))}, state)


def test_a_follower_says_and_keeps_nothing_of_votes(history: History) -> None:
    vote = history.stage.vote(0, NULLIFY, 9)
    checker = history.replay(history.checker())
    with pytest.raises(Violation, match="says Votes"):
        checker.released(3, Votes((vote,)), history.stage.epoch)
    with pytest.raises(Violation, match="journal of votes"):
        checker.durable(3, Effects(persist=(OwnVote(vote).encode(),)), history.stage.epoch)


def test_nobody_claims_blocks_that_are_not_final(history: History) -> None:
    told = Status(0, 9, 9, 9, len(history.blocks) + 1, 0, bytes(32), False, ())
    checker = history.replay(history.checker())
    with pytest.raises(Violation, match="claims height"):
        checker.released(0, told, history.stage.epoch)
