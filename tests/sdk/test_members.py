"""What `tilth member` works out before it asks: numbers, words, and what it will be about."""

import json

import pytest

from tilth import members
from tilth.errors import InvalidInput

NOW = members.Epoch(2, ("a", "b", "c"), ("d",), 2, 3, 1)
FILE = json.dumps({"format": "tilth-member-1", "member": {"organization": "e"}})


@pytest.mark.parametrize(
    ("n", "given", "numbers"),
    [
        (3, (None, None), (2, 3)),
        (4, (None, None), (3, 3)),
        (2, (None, None), (2, 2)),
        (4, (4, None), (4, 4)),
        (4, (3, 4), (3, 4)),
    ],
)
def test_numbers_stay_in_their_column(n, given, numbers):
    assert members._numbers(NOW, n, *given) == numbers


def test_numbers_of_no_column_must_be_said():
    odd = members.Epoch(0, tuple("abcdefg"), (), 6, 7, 1)
    with pytest.raises(InvalidInput, match="state q"):
        members._numbers(odd, 8, None, 8)
    assert members._numbers(odd, 7, None, None) == (6, 7)


@pytest.mark.parametrize(
    ("change", "words", "after"),
    [
        ({"kind": "admit", "member": FILE, "votes": True}, "admit e, with a vote", "a b c e"),
        ({"kind": "admit", "member": FILE, "votes": False}, "admit e, without a vote", "a b c"),
        (members.vote("d", votes=True), "d votes", "a b c d"),
        (members.vote("b", votes=False), "b stops voting", "a c"),
        (members.remove("c"), "remove c", "a b"),
        ({"kind": "rotate", "member": FILE}, "rotate e", "a b c"),
        (members.rules(2), "rules_version 2", "a b c"),
        (dict(members.QUORUM), "other q or k", "a b c"),
        ({"kind": "admit", "member": "{", "votes": False}, "no member file", "a b c"),
    ],
)
def test_a_change_in_words_and_who_votes_after_it(change, words, after):
    assert words in members._words(change)
    assert " ".join(members._members_after(NOW, change)) == after


def test_a_copy_is_what_a_node_stated(tmp_path):
    stated = {"size": 3, "root": "ab", "signature": "cd"}
    (tmp_path / "copy.json").write_text(json.dumps(stated))
    assert members.vote("d", votes=True, copy=tmp_path / "copy.json")["copy"] == stated
    (tmp_path / "copy.json").write_text("nothing")
    with pytest.raises(InvalidInput, match="states no copy"):
        members.vote("d", votes=True, copy=tmp_path / "copy.json")
    with pytest.raises(InvalidInput, match="cannot read"):
        members.rotate(tmp_path / "missing")
