"""Evidence on its way: seen, stored, told to everybody, recorded by the next leader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from number_ledger import Numbers
from stage import Stage

from tilth_ledger.blocks import FINALIZE, NOTARIZE, NULLIFY, Kind, Vote
from tilth_ledger.docket import MOST_OF_ONE_MEMBER
from tilth_ledger.effects import Received
from tilth_ledger.evidence import Evidence
from tilth_ledger.journal_records import Accused, decode_record
from tilth_ledger.leaf import EVIDENCE, leaf_type
from tilth_ledger.messages import Accusation, Certificates, Votes

ONE, TWO, NONE = b"1" * 32, b"2" * 32, bytes(32)
FALSE = 3  # the member that the test plays: it leads view 3
KINDS = [
    ((NOTARIZE, ONE), (NOTARIZE, TWO)),
    ((FINALIZE, ONE), (FINALIZE, TWO)),
    ((NOTARIZE, ONE), (FINALIZE, TWO)),
    ((FINALIZE, ONE), (NULLIFY, NONE)),
]


@pytest.fixture
def stage() -> Stage:
    return Stage(4, away=[FALSE])


def votes(stage: Stage, pair: Sequence[tuple[Kind, bytes]], view: int = 1) -> list[Vote]:
    return [stage.vote(FALSE, kind, view, block) for kind, block in pair]


def recorded(stage: Stage, member: int) -> set[tuple[int, int, int, str]]:
    state: Numbers = stage.disks[member].archive.state
    return set(state.evidence)


@pytest.mark.parametrize("pair", KINDS)
@pytest.mark.parametrize("turned", [False, True])
def test_two_votes_that_exclude_each_other_go_on_the_ledger_of_everybody(
    stage: Stage, pair: Sequence[tuple[Kind, bytes]], turned: bool
) -> None:
    one, other = votes(stage, pair)[:: -1 if turned else 1]
    stage.play(FALSE, 0, Votes((one,)))
    stage.play(FALSE, 0, Votes((other,)))
    stage.pass_ms(5_000)
    assert all(recorded(stage, m) == {Evidence.of(one, other).name} for m in range(3))
    assert stage.is_silent()


@pytest.mark.parametrize(
    "pair", [((NOTARIZE, ONE), (FINALIZE, ONE)), ((NOTARIZE, ONE), (NULLIFY, NONE))]
)
def test_what_an_honest_member_says_accuses_nobody(
    stage: Stage, pair: Sequence[tuple[Kind, bytes]]
) -> None:
    for vote in votes(stage, pair):
        stage.play(FALSE, 0, Votes((vote,)))
    stage.submit(0, "a")
    stage.pass_ms(5_000)
    assert recorded(stage, 0) == set()
    assert not stage.alarms[0]


@pytest.fixture
def given_up(stage: Stage) -> Stage:
    """The false member let its view pass, and the others nullified it."""
    for number in range(4):
        stage.submit(0, f"leaf {number}")
        stage.pass_ms(10_000)
    assert all((FALSE, bytes(32)) in stage.signed(m, NULLIFY) for m in range(3))
    return stage


def test_a_certificate_brings_together_what_nobody_held_both_of(given_up: Stage) -> None:
    stage = given_up
    stage.play(FALSE, 0, Votes((stage.vote(FALSE, FINALIZE, FALSE, ONE),)))
    certificate = stage.certificate(NULLIFY, FALSE, members=[1, 2, FALSE])
    stage.play(FALSE, 0, Certificates((certificate,)))
    stage.pass_ms(10_000)
    assert recorded(stage, 1) == {(0, FALSE, FALSE, "nullify-finalize")}


def test_a_certificate_that_came_first_does_so_too(given_up: Stage) -> None:
    stage = given_up
    certificate = stage.certificate(NULLIFY, FALSE, members=[1, 2, FALSE])
    stage.play(FALSE, 0, Certificates((certificate,)))
    stage.play(FALSE, 0, Votes((stage.vote(FALSE, FINALIZE, FALSE, ONE),)))
    stage.pass_ms(10_000)
    assert recorded(stage, 1) == {(0, FALSE, FALSE, "nullify-finalize")}


def test_a_forged_signature_hides_no_pair(given_up: Stage) -> None:
    """A liar puts garbage in the place of its own vote before it casts two that are real."""
    stage = given_up
    real = stage.vote(FALSE, NULLIFY, FALSE)
    stage.play(FALSE, 0, Votes((replace(real, signature=bytes(64)),)))
    stage.play(FALSE, 0, Votes((stage.vote(FALSE, FINALIZE, FALSE, TWO),)))
    stage.play(FALSE, 0, Votes((real,)))
    stage.pass_ms(10_000)
    assert recorded(stage, 0) == {(0, FALSE, FALSE, "nullify-finalize")}


def test_evidence_is_durable_before_anybody_is_told(stage: Stage) -> None:
    one, other = votes(stage, KINDS[0])
    stage.play(FALSE, 0, Votes((one,)))
    effects = stage.step(0, [Received(FALSE, Votes((other,)))])
    told = [s.message for s in effects.send if isinstance(s.message, Accusation)]
    assert told == [Accusation((Evidence.of(one, other),))]
    records = [decode_record(body) for body in effects.persist]
    assert Accused(Evidence.of(one, other)) in records
    assert [alarm.kind for alarm in effects.alarms] == ["evidence"]


def test_a_crash_forgets_no_evidence_and_no_compaction_does(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tilth_ledger.core.COMPACT_BYTES", 1)
    for member in (1, 2):
        stage.crash(member)  # nobody can record it, and nobody else has seen it
    for vote in votes(stage, KINDS[0]):
        stage.play(FALSE, 0, Votes((vote,)))
    stage.pass_ms(30_000)
    assert recorded(stage, 0) == set()
    stage.crash(0)
    stage.restart(0)
    assert any(alarm.kind == "evidence" for alarm in stage.alarms[0])
    for member in (1, 2):
        stage.restart(member)
    stage.pass_ms(60_000)
    assert recorded(stage, 2) == {(0, 1, FALSE, "notarize-notarize")}


def test_evidence_is_its_own_work_and_stands_before_entries(stage: Stage) -> None:
    for vote in votes(stage, KINDS[0]):
        stage.play(FALSE, 0, Votes((vote,)))
    stage.submit(0, "a", "b")
    stage.pass_ms(10_000)
    blocks = stage.disks[1].archive.blocks
    types = [[leaf_type(leaf) for leaf in block.leaves] for block in blocks]
    assert EVIDENCE in {kind for kinds in types for kind in kinds}
    for kinds in types:
        assert kinds == sorted(kinds, key=lambda kind: kind != EVIDENCE)


def test_a_pair_that_is_told_again_and_again_is_recorded_and_told_once(stage: Stage) -> None:
    evidence = Evidence.of(*votes(stage, KINDS[0]))
    stage.play(FALSE, 0, Accusation((evidence,)))
    stage.pass_ms(5_000)
    said = len(stage.sent)
    for member in range(3):
        stage.play(FALSE, member, Accusation((evidence,)))
    stage.pass_ms(60_000)
    assert len(stage.sent) == said
    assert len(stage.alarms[0]) == 1
    assert recorded(stage, 0) == {evidence.name}


def test_evidence_with_a_forged_signature_is_a_fault_of_who_tells_it(stage: Stage) -> None:
    one, other = votes(stage, KINDS[0])
    forged = Evidence.of(one, replace(other, signature=bytes(64)))
    stage.play(FALSE, 0, Accusation((forged,)))
    stage.pass_ms(5_000)
    assert recorded(stage, 0) == set()
    assert [alarm.kind for alarm in stage.alarms[0]] == ["peer"]


def test_one_member_cannot_fill_the_docket_of_the_others() -> None:
    stage = Stage(4, away=[2, FALSE])  # q = 3: nothing becomes final
    for view in range(1, 200):
        stage.play(FALSE, 0, Accusation((Evidence.of(*votes(stage, KINDS[0], view)),)))
    other = Evidence.of(*(stage.vote(2, NOTARIZE, 1, block) for block in (ONE, TWO)))
    stage.play(FALSE, 0, Accusation((other,)))
    told = [s for s in stage.alarms[0] if s.kind == "evidence" and s.evidence is not None]
    members = [alarm.evidence.member for alarm in told if alarm.evidence is not None]
    assert members.count(FALSE) == MOST_OF_ONE_MEMBER
    assert members.count(2) == 1


def test_a_follower_that_sees_a_pair_keeps_it_and_tells_the_members() -> None:
    stage = Stage(4, away=[FALSE], followers=1)
    evidence = Evidence.of(*votes(stage, KINDS[3]))
    stage.play(4, 0, Accusation((evidence,)))
    stage.pass_ms(5_000)
    assert recorded(stage, 1) == recorded(stage, 4) == {evidence.name}
