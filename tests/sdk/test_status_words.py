"""What `tilth status` says of a node's vote: three states, three words."""

import pytest

from tilth.cli.status import _vote


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
