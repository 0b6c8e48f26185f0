"""What `tilth status` says of a node's vote: three states, three words."""

import pytest

from tilth.cli.ledger import _summary
from tilth.cli.status import _accused, _vote


@pytest.mark.parametrize(
    ("votes", "voting", "words"),
    [
        (True, True, "voting"),
        (True, False, "catching up, not voting"),
        (False, False, "following, without a vote"),
    ],
)
def test_a_member_that_does_not_vote_is_not_taken_for_a_follower(votes, voting, words):
    assert _vote({"votes": votes, "voting": voting}) == words


PAIR = {"organization": "b", "epoch": 0, "view": 7, "pair": "notarize-notarize", "index": 12}


def test_a_member_with_evidence_against_it_is_named_once():
    assert _accused([PAIR, {**PAIR, "view": 9, "index": 30}]) == [
        "b signed votes that exclude each other: 2 pairs, the first (notarize-notarize in view 7)"
        " at entry 12"
    ]


def test_nobody_is_named_without_evidence():
    assert _accused([]) == []


def test_evidence_has_its_line_in_the_list_of_entries():
    payload = {"net": "ab", "member": 1, "view": 7, "epoch": 0, "pair": "notarize-notarize"}
    assert _summary(payload) == (
        "the ledger",
        "evidence against member 1 in view 7: notarize-notarize",
    )
