"""What `tilth status` says of a node's vote: three states, three words."""

import pytest

from tilth.cli.ledger import _summary
from tilth.cli.status import _accused, _disk, _vote, problems


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


def peer(name, *, member=True, connected=True):
    facts = {"organization": name, "member": member, "connected": connected, "size": 3}
    return facts | {"address": f"{name}.example:7001"}


def status(*peers, **facts):
    quiet = {"halted": "", "alarm": "", "evidence": [], "faults": [], "votes": True}
    return {**quiet, "organization": "a", "quorum": 2, "peers": list(peers), **facts}


def begins(words, found):
    assert [each.split(":")[0] for each in found] == words


def test_a_ledger_in_which_all_is_well_has_no_problem():
    assert problems(status(peer("b"), peer("c"))) == []


def test_who_is_away_is_named_with_what_it_means():
    away = peer("c", connected=False)
    begins(["NO SPARE", "AWAY"], problems(status(peer("b"), away)))
    begins(["NO QUORUM", "AWAY", "AWAY"], problems(status(peer("b", connected=False), away)))
    begins(["AWAY"], problems(status(peer("b"), peer("d", member=False, connected=False))))
    assert "tilth node status" in problems(status(peer("b"), away))[1]


def test_a_follower_counts_its_members_only():
    here = status(peer("b"), peer("c"), votes=False)
    assert problems(here) == []
    begins(
        ["NO SPARE", "AWAY"],
        problems(status(peer("b"), peer("c"), peer("e", connected=False)) | {"votes": False}),
    )


def test_the_worst_comes_first_and_each_says_what_to_do():
    found = problems(
        status(
            peer("b"),
            peer("c"),
            halted="THE LEDGER HAS FORKED: tilth ledger rebase --help",
            alarm="another instance: stop one; this node forgot a vote: tilth member rotate",
            evidence=[PAIR],
            authority_is_old=True,
        )
    )
    begins(["HALTED, reads go on", "ALARM", "EVIDENCE", "PROFILE"], found)


def test_what_no_honest_node_sends_is_shown_and_what_all_send_is_not():
    known = {"organization": "b", "reason": "Certificates: known", "count": 900}
    forged = {"organization": "b", "reason": "Votes: signature does not verify", "count": 2}
    late = {"organization": "c", "reason": "Votes: of another epoch", "count": 3}
    [line] = problems(status(peer("b"), peer("c"), faults=[known, forged, late]))
    assert line.startswith("REFUSED from b: 2 messages, such as 'Votes: signature")


NEVER = {"all_ms": 0, "rows_ms": 0, "found": 0, "left": 0, "runs": False, "percent": 0}
NOON = 43_200_000


def test_how_the_disk_was_when_it_was_last_read():
    assert _disk(NEVER) == "not looked through yet"
    assert _disk(NEVER | {"runs": True, "percent": 7}) == (
        "not looked through yet; being looked through, 7 %"
    )
    assert _disk(NEVER | {"rows_ms": NOON}) == "rows by 1970-01-01 12:00 UTC: no damage"
    assert _disk(NEVER | {"all_ms": NOON, "rows_ms": 2 * NOON}) == (
        "all of it read by 1970-01-01 12:00 UTC, rows by 1970-01-02 00:00 UTC: no damage"
    )


def test_damage_that_was_found_is_told_with_what_of_it_is_left():
    found = NEVER | {"all_ms": NOON, "rows_ms": NOON, "found": 3}
    assert _disk(found).endswith(": 3 damages found")
    assert _disk(found | {"left": 1}).endswith(": 3 damages found, 1 of them still there")
