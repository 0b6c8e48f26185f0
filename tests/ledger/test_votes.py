"""Counting votes, and noticing members that sign what excludes each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from stage import Stage

from tilth_ledger.blocks import FINALIZE, NOTARIZE, NULLIFY, Kind, Vote
from tilth_ledger.errors import InvalidInput
from tilth_ledger.evidence import conflict
from tilth_ledger.votes import KEPT_VIEWS, VoteTable

STAGE = Stage(4, away=[0, 1, 2, 3])
ONE, TWO, NONE = b"1" * 32, b"2" * 32, bytes(32)


def vote(member: int, kind: Kind, block: bytes = NONE, view: int = 1) -> Vote:
    return STAGE.vote(member, kind, view, block)


@pytest.fixture
def table() -> VoteTable:
    return VoteTable(STAGE.epoch)


PAIRS = [
    (NOTARIZE, ONE, NOTARIZE, TWO, True),
    (FINALIZE, ONE, FINALIZE, TWO, True),
    (NOTARIZE, ONE, FINALIZE, TWO, True),
    (FINALIZE, ONE, NULLIFY, NONE, True),
    (NOTARIZE, ONE, FINALIZE, ONE, False),
    (NOTARIZE, ONE, NULLIFY, NONE, False),
    (NOTARIZE, ONE, NOTARIZE, ONE, False),
    (NULLIFY, NONE, NULLIFY, NONE, False),
]


@pytest.mark.parametrize(("kind", "block", "other", "another", "excludes"), PAIRS)
def test_which_two_votes_exclude_each_other(
    kind: Kind, block: bytes, other: Kind, another: bytes, excludes: bool
) -> None:
    first, second = vote(1, kind, block), vote(1, other, another)
    assert conflict(first, second) is conflict(second, first) is excludes
    assert not conflict(first, replace(second, view=2))
    assert not conflict(first, replace(second, member=2))
    assert not conflict(first, replace(second, epoch=1))


@pytest.mark.parametrize(("kind", "block", "other", "another", "excludes"), PAIRS)
def test_both_votes_are_kept_as_evidence_and_nothing_else_is(
    table: VoteTable, kind: Kind, block: bytes, other: Kind, another: bytes, excludes: bool
) -> None:
    table.admit(vote(1, kind, block))
    table.admit(vote(1, other, another))
    assert bool(table.evidence) is excludes
    for pair in table.evidence:
        pair.first.verify(STAGE.epoch)
        pair.second.verify(STAGE.epoch)


def test_a_vote_inside_a_certificate_is_evidence_too(table: VoteTable) -> None:
    table.learn(STAGE.certificate(NOTARIZE, 1, ONE, [0, 1, 2]))
    table.admit(vote(2, NOTARIZE, TWO))
    assert [pair.first.member for pair in table.evidence] == [2]


def test_evidence_is_never_made_of_a_vote_that_its_member_did_not_sign(table: VoteTable) -> None:
    table.learn(STAGE.certificate(NOTARIZE, 1, ONE, [0, 1, 2]))
    table.learn(STAGE.certificate(NULLIFY, 1, members=[0, 1, 2]))
    forged = replace(vote(3, NOTARIZE, ONE), signature=bytes(64))
    table.admit(forged)  # a certificate stands: nobody looks at it
    table.admit(vote(3, FINALIZE, TWO))
    assert table.evidence == []


@pytest.mark.rule("V4")
def test_q_distinct_members_make_a_certificate_and_fewer_do_not(table: VoteTable) -> None:
    assert table.admit(vote(0, NOTARIZE, ONE)) is None
    assert table.admit(vote(0, NOTARIZE, ONE)) is None
    assert table.admit(vote(1, NOTARIZE, TWO)) is None
    assert table.admit(vote(2, NOTARIZE, ONE)) is None
    certificate = table.admit(vote(3, NOTARIZE, ONE))
    assert certificate is not None
    assert certificate.members == (0, 2, 3)
    certificate.verify(STAGE.epoch)


def test_a_member_s_first_vote_counts_and_its_second_does_not(table: VoteTable) -> None:
    table.admit(vote(0, NOTARIZE, TWO))
    for member in (0, 1, 2):
        assert table.admit(vote(member, NOTARIZE, ONE)) is None
    assert table.admit(vote(3, NOTARIZE, ONE)) is not None


def forged(change: Callable[[Vote], Vote]) -> Vote:
    return change(vote(0, NOTARIZE, ONE))


@pytest.mark.parametrize(
    "change",
    [
        lambda v: replace(v, signature=bytes(64)),
        lambda v: replace(v, view=2),
        lambda v: replace(v, block=TWO),
        lambda v: replace(v, member=1),
        lambda v: replace(v, member=4),
        lambda v: replace(v, epoch=1),
        lambda v: replace(v, kind=FINALIZE),
    ],
)
def test_a_vote_that_its_member_did_not_sign_is_refused(
    table: VoteTable, change: Callable[[Vote], Vote]
) -> None:
    with pytest.raises(InvalidInput):
        table.admit(forged(change))


def test_a_certificate_with_one_bad_signature_is_refused(table: VoteTable) -> None:
    for member in (0, 1):
        table.admit(vote(member, NOTARIZE, ONE))
    good = STAGE.certificate(NOTARIZE, 1, ONE, [0, 1, 2])
    bad = replace(good, signatures=(*good.signatures[:2], bytes(64)))
    swapped = replace(good, signatures=good.signatures[::-1])
    short = replace(good, members=(0, 1), signatures=good.signatures[:2])
    twice = replace(good, members=(0, 1, 1))
    for certificate in (bad, swapped, short, twice):
        with pytest.raises(InvalidInput):
            table.learn(certificate)
    assert table.learn(good)
    assert not table.learn(good)
    with pytest.raises(InvalidInput):
        table.verify(bad)


@pytest.mark.rule("V6")
def test_votes_of_long_ago_are_forgotten_and_certificates_above_finality_are_not(
    table: VoteTable,
) -> None:
    for view in range(1, KEPT_VIEWS + 200):
        table.admit(vote(1, NULLIFY, view=view))
        table.learn(STAGE.certificate(NULLIFY, view, members=[0, 2, 3]))
        table.forget(50, view)
    assert table.nullification(10) is None
    assert table.nullification(51) is not None
    assert table.voted(51, NULLIFY, 1) is None
    assert table.voted(KEPT_VIEWS + 100, NULLIFY, 1) is not None


def test_the_newest_votes_of_a_member_are_at_hand(table: VoteTable) -> None:
    for view in (3, 5, 4):
        table.admit(vote(1, NULLIFY, view=view))
    table.admit(vote(1, NOTARIZE, ONE, view=5))
    assert {(v.view, v.kind) for v in table.latest(1)} == {(5, NULLIFY), (5, NOTARIZE)}
    assert table.latest(2) == ()
