"""The rules of voting against a member that breaks them, and each rule's removal caught.

In the attacks member 2 of four lies (q = 3, so that one liar is one too few) and the test speaks
for it; the three others are real.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from mutants import (
    OUTCOMES,
    FinalizesAfterNullify,
    NoParentCertificate,
    NoSkipProof,
    NotarizesTwice,
    NullifiesAfterFinalize,
    unchecked,
)
from stage import Stage

from tilth_ledger.ballot import VoterRules
from tilth_ledger.blocks import FINALIZE, NOTARIZE, NULLIFY, Block, Certificate
from tilth_ledger.journal_records import OwnVote, frame
from tilth_ledger.messages import Body, Certificates, FetchBlock, Proposal, Votes

LIAR, CUT_OFF = 2, 0


def first_block_is_final_at_its_leader_only(rules: VoterRules) -> tuple[Stage, Block]:
    """View 1 ends with a block that only member 1 knows to be final; member 3 voted for it, member
    0 saw nothing but its notarization."""
    stage = Stage(4, rules=rules, away=[LIAR])
    stage.isolate(CUT_OFF)
    stage.submit(1, "honest")
    proposal = next(m for s, to, m in stage.sent if to == LIAR and isinstance(m, Proposal))
    hashed = proposal.block.hash
    stage.settle()
    stage.play(LIAR, 1, Votes((stage.vote(LIAR, NOTARIZE, 1, hashed),)))
    notarization = stage.certificate(NOTARIZE, 1, hashed, [1, LIAR, 3])
    stage.play(LIAR, 3, Certificates((notarization,)))
    stage.cut(1, LIAR)
    stage.settle()
    stage.isolate(1)  # what it says from now on reaches nobody
    stage.play(LIAR, 1, Votes((stage.vote(LIAR, FINALIZE, 1, hashed),)))
    stage.drop_messages()
    stage.play(LIAR, CUT_OFF, Certificates((notarization,)))
    stage.drop_messages()
    assert stage.texts(1) == ["honest"]
    assert stage.texts(3) == stage.texts(CUT_OFF) == []
    return stage, proposal.block


def propose_as_liar(stage: Stage, block: Block, parent: Block | None = None) -> None:
    """Member 2 leads view 2: its block goes to members 0 and 3, with all of its votes."""
    hashed = block.hash
    for member in (CUT_OFF, 3):
        stage.play(LIAR, member, Proposal(stage.vote(LIAR, NOTARIZE, 2, hashed), block))
        if parent is not None:
            stage.play(LIAR, member, Body(parent))
    stage.mend()
    stage.isolate(1)
    stage.settle()
    for member in (CUT_OFF, 3):
        stage.play(LIAR, member, Votes((stage.vote(LIAR, FINALIZE, 2, hashed),)))
    stage.settle()


def skip_a_final_view(rules: VoterRules) -> Stage:
    stage, _ = first_block_is_final_at_its_leader_only(rules)
    block, _ = stage.block(2, ["other"])
    propose_as_liar(stage, block)
    return stage


def stand_on_a_made_up_block(rules: VoterRules) -> Stage:
    stage, _ = first_block_is_final_at_its_leader_only(rules)
    parent, state = stage.block(1, ["made up"])
    block, _ = stage.block(2, ["other"], parent, None, state=state)
    propose_as_liar(stage, block, parent)
    return stage


@pytest.mark.rule("V1")
def test_a_block_that_skips_a_view_without_proof_gets_no_vote() -> None:
    stage = skip_a_final_view(VoterRules())
    assert not any(view == 2 for m in (0, 3) for view, _ in stage.signed(m, NOTARIZE))
    assert stage.texts(3) in ([], ["honest"])


def test_without_skip_proofs_one_liar_forks_the_ledger() -> None:
    stage = skip_a_final_view(NoSkipProof())
    assert stage.texts(1) == ["honest"]
    assert stage.texts(3) == ["other"]


@pytest.mark.rule("V1")
def test_a_block_on_a_parent_without_certificate_gets_no_vote() -> None:
    stage = stand_on_a_made_up_block(VoterRules())
    assert not any(view == 2 for m in (0, 3) for view, _ in stage.signed(m, NOTARIZE))
    assert stage.texts(3) in ([], ["honest"])


def test_without_parent_certificates_one_liar_forks_the_ledger() -> None:
    stage = stand_on_a_made_up_block(NoParentCertificate())
    assert stage.texts(1) == ["honest"]
    assert stage.texts(3) == ["made up", "other"]


def two_proposals_in_one_view(rules: VoterRules) -> set[tuple[int, bytes]]:
    """A leader proposes, the voter crashes, the leader proposes something else."""
    stage = Stage(4, rules=rules, away=[1, 2])
    stage.isolate(3)
    for text in ("one", "two"):
        block, _ = stage.block(1, [text])
        stage.play(1, 0, Proposal(stage.vote(1, NOTARIZE, 1, block.hash), block))
        stage.crash(0)
        stage.restart(0)
    return stage.signed(0, NOTARIZE)


@pytest.mark.rule("V1")
@pytest.mark.rule("F1")
def test_a_member_notarizes_once_per_view_over_a_crash() -> None:
    assert len(two_proposals_in_one_view(VoterRules())) == 1


def test_a_member_that_notarizes_twice_is_caught() -> None:
    assert len(two_proposals_in_one_view(NotarizesTwice())) == 2


def notarization_after_nullify(rules: VoterRules) -> tuple[Stage, bytes]:
    """Member 0 gives the view up; then the block of that view is notarized by the others."""
    stage = Stage(4, rules=rules, away=[1, 2, 3])
    stage.submit(0, "a")
    stage.pass_ms(1_000)
    assert stage.signed(0, NULLIFY) == {(1, bytes(32))}
    block, _ = stage.block(1, ["b"])
    stage.play(1, 0, Proposal(stage.vote(1, NOTARIZE, 1, block.hash), block))
    stage.play(1, 0, Certificates((stage.certificate(NOTARIZE, 1, block.hash, [1, 2, 3]),)))
    return stage, block.hash


@pytest.mark.rule("V2")
@pytest.mark.rule("V4")
def test_after_nullify_a_member_notarizes_and_follows_but_does_not_finalize() -> None:
    """commonware #2695, Alpenglow #132: a nullify vote is no reason to ignore the view's block."""
    stage, block = notarization_after_nullify(VoterRules())
    assert (1, block) in stage.signed(0, NOTARIZE)
    assert stage.replicas[0].view == 2
    assert stage.signed(0, FINALIZE) == set()


def test_a_member_that_finalizes_after_nullify_is_caught() -> None:
    stage, block = notarization_after_nullify(FinalizesAfterNullify())
    assert stage.signed(0, FINALIZE) == {(1, block)}
    assert stage.alarms[0][-1].kind == "evidence"


def timeout_after_finalize(rules: VoterRules) -> Stage:
    """A journal that holds a finalize vote, but not the certificate that moved the view on."""
    stage = Stage(4, away=[1, 2, 3])
    block, _ = stage.block(1, ["a"])
    votes = [stage.vote(0, NOTARIZE, 1, block.hash), stage.vote(0, FINALIZE, 1, block.hash)]
    stage.rules = rules
    stage.crash(0)
    stage.disks[0].journal = frame([OwnVote(vote).encode() for vote in votes], 0)
    stage.restart(0)
    stage.submit(0, "b")
    stage.pass_ms(60_000)
    return stage


@pytest.mark.rule("V3")
@pytest.mark.rule("F2")
def test_a_member_does_not_nullify_a_view_in_which_it_finalized() -> None:
    assert timeout_after_finalize(VoterRules()).signed(0, NULLIFY) == set()


def test_a_member_that_nullifies_after_finalize_is_caught() -> None:
    stage = timeout_after_finalize(NullifiesAfterFinalize())
    assert stage.signed(0, NULLIFY) == {(1, bytes(32))}
    assert stage.alarms[0][-1].kind == "evidence"


@pytest.mark.rule("V6")
def test_members_that_hold_different_certificates_of_a_view_go_on_together() -> None:
    """commonware #2137: one holds the notarization, the other the nullification."""
    stage = Stage(4, away=[1, 2])
    stage.cut(0, 3)
    block, state = stage.block(1, ["a"])
    notarization = stage.certificate(NOTARIZE, 1, block.hash, [1, 2, 3])
    stage.play(1, 0, Certificates((notarization,)))
    stage.play(1, 3, Certificates((stage.certificate(NULLIFY, 1, members=[0, 1, 2]),)))
    assert stage.replicas[0].view == stage.replicas[3].view == 2
    second, _ = stage.block(2, ["b"], block, notarization, state=state)
    for member in (0, 3):
        stage.play(2, member, Proposal(stage.vote(2, NOTARIZE, 2, second.hash), second))
        assert (2, member, FetchBlock(block.hash)) in asked(stage, member)
        stage.play(2, member, Body(block))
        assert (2, second.hash) in stage.signed(member, NOTARIZE)


def asked(stage: Stage, member: int) -> list[tuple[int, int, FetchBlock]]:
    """What a member asked for, as (the one it may be answered by, itself, the question)."""
    questions = [m for s, _, m in stage.sent if s == member and isinstance(m, FetchBlock)]
    return [(2, member, question) for question in questions]


WRONG: dict[str, dict[str, Any]] = {
    "size": {"size": 2},
    "root": {"root": bytes(32)},
    "state": {"state": bytes(32)},
}


def proposal_that_states(**stated: Any) -> tuple[Stage, bytes]:
    """The leader of view 1 proposes a block whose header states this of its outcome."""
    stage = Stage(3, away=[1])
    block, _ = stage.block(1, ["a"])
    block = replace(block, header=replace(block.header, **stated))
    proposal = Proposal(stage.vote(1, NOTARIZE, 1, block.hash), block)
    for member in (0, 2):
        stage.play(1, member, proposal)
    stage.settle()
    return stage, block.hash


@pytest.mark.rule("V1")
def test_a_block_that_states_its_outcome_is_voted_for() -> None:
    stage, block = proposal_that_states()
    for member in (0, 2):
        assert stage.signed(member, NOTARIZE) == {(1, block)}
        assert stage.signed(member, NULLIFY) == set()


@pytest.mark.rule("V1")
@pytest.mark.parametrize("what", OUTCOMES)
def test_a_block_that_states_another_outcome_is_given_up_by_every_voter(what: str) -> None:
    stage, _ = proposal_that_states(**WRONG[what])
    for member in (0, 2):
        assert stage.signed(member, NOTARIZE) == stage.signed(member, FINALIZE) == set()
        assert stage.signed(member, NULLIFY) == {(1, bytes(32))}
    assert stage.heights() == [0, 0, 0]


@pytest.mark.parametrize("what", OUTCOMES)
def test_a_voter_that_does_not_look_at_an_outcome_is_caught(what: str) -> None:
    with unchecked(what):
        stage, block = proposal_that_states(**WRONG[what])
    assert stage.signed(0, NOTARIZE) == {(1, block)}


# -- a message for a view that is over


def one_who_missed_the_end_of_a_view(repeats: int) -> tuple[Stage, Certificate]:
    """Members 0 and 2 gave view 1 up; member 1 was not told, and says its vote again."""
    stage = Stage(3, away=[1])
    nullification = stage.certificate(NULLIFY, 1, members=[0, 2])
    stage.play(2, 0, Certificates((nullification,)))
    assert stage.replicas[0].view == 2
    stage.settle()
    stage.sent.clear()
    for _ in range(repeats):
        stage.play(1, 0, Votes((stage.vote(1, NULLIFY, 1),)))
    return stage, nullification


def answers(stage: Stage) -> list[Certificates]:
    return [m for s, to, m in stage.sent if (s, to) == (0, 1) and isinstance(m, Certificates)]


def test_a_vote_repeated_for_a_view_that_is_over_is_answered_by_what_ended_it() -> None:
    """commonware #2137: a certificate that is said once and lost stays lost."""
    stage, nullification = one_who_missed_the_end_of_a_view(repeats=2)
    assert answers(stage) == [Certificates((nullification,))]


def test_a_late_vote_is_not_answered_before_it_is_repeated() -> None:
    """Its member may well have been told meanwhile: each late vote would bring an answer."""
    stage, _ = one_who_missed_the_end_of_a_view(repeats=1)
    assert answers(stage) == []


def test_a_vote_repeated_below_the_final_block_is_answered_by_finality() -> None:
    stage = Stage(3, away=[1])
    block, _ = stage.block(1, ["a"])
    final = stage.certificate(FINALIZE, 1, block.hash)
    stage.play(1, 0, Proposal(stage.vote(1, NOTARIZE, 1, block.hash), block))
    stage.play(1, 0, Certificates((final,)))
    assert stage.texts(0) == ["a"]
    stage.sent.clear()
    for _ in range(2):
        stage.play(1, 0, Votes((stage.vote(1, NULLIFY, 1),)))
    assert final in answers(stage)[0].certificates
