"""Errors say what was found, what was expected and what to do, and cross the wire whole."""

import pytest

from tilth_ledger.errors import Fatal, InvalidInput, PeerFault, Refused, TilthError, from_dict


def test_an_error_prints_all_its_facts():
    error = InvalidInput("leaf is too large", found="70,000 bytes", expected=65_535, remedy="Cut.")

    assert str(error) == "leaf is too large; found 70,000 bytes; expected 65535. Cut."


def test_an_error_without_facts_is_its_message():
    assert str(TilthError("no")) == "no"


def test_a_refusal_leads_with_its_rule():
    assert str(Refused("R1", "train set is empty")) == "R1: train set is empty"


@pytest.mark.parametrize(
    "error",
    [
        TilthError("a", found="b"),
        InvalidInput("a", found="b", expected="c", remedy="d"),
        Refused("R1", "a", remedy="d"),
        PeerFault("a", expected="c"),
        Fatal("a"),
    ],
)
def test_an_error_survives_the_wire(error):
    back = from_dict(error.as_dict())

    assert type(back) is type(error)
    assert str(back) == str(error)
    assert back.as_dict() == error.as_dict()


def test_an_unknown_kind_is_still_an_error():
    assert type(from_dict({"kind": "of tomorrow", "message": "a"})) is TilthError
