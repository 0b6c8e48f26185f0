"""The token of a client's request: what it binds, and what is refused."""

from contextlib import suppress
from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth_ledger.errors import InvalidInput
from tilth_ledger.keys import SigningKey
from tilth_ledger.token import LONGEST_MS, Asked, Token, write_token

KEY = SigningKey.from_seed(bytes(32))
OTHER = SigningKey.from_seed(b"\x01" * 32)
ASKED = Asked("ab" * 32, "hospital-a", "/tilth.v1.Ledger/Submit")
NOW = 1_800_000_000_000


def test_a_token_is_good_for_what_it_was_written_for() -> None:
    token = Token.parse(write_token(KEY, ASKED, b"body", NOW + 60_000))
    assert token.key_id == KEY.key_id
    token.verify(KEY.public, ASKED, NOW)
    token.check(b"body")


def test_a_token_is_for_one_body_and_states_which() -> None:
    text = write_token(KEY, ASKED, b"body", NOW + 60_000)
    with pytest.raises(InvalidInput, match="another request"):
        Token.parse(text).check(b"bodY")
    moved = text.replace(sha256(b"body").hexdigest(), sha256(b"bodY").hexdigest())
    Token.parse(moved).check(b"bodY")
    with pytest.raises(InvalidInput, match="signature"):
        Token.parse(moved).verify(KEY.public, ASKED, NOW)


@pytest.mark.parametrize(
    "change",
    [
        {"net": "cd" * 32},
        {"organization": "hospital-b"},
        {"method": "/tilth.v1.Ledger/Check"},
    ],
)
def test_a_token_cannot_be_moved_to_another_request(change: dict[str, object]) -> None:
    token = Token.parse(write_token(KEY, ASKED, b"body", NOW + 60_000))
    with pytest.raises(InvalidInput, match="signature"):
        token.verify(KEY.public, replace(ASKED, **change), NOW)  # type: ignore[arg-type]


def test_a_token_of_another_key_is_refused() -> None:
    token = Token.parse(write_token(OTHER, ASKED, b"body", NOW + 60_000))
    with pytest.raises(InvalidInput, match="signature"):
        token.verify(KEY.public, ASKED, NOW)


def test_a_later_expiry_cannot_be_written_into_a_token() -> None:
    text = write_token(KEY, ASKED, b"body", NOW + 60_000).replace(
        str(NOW + 60_000), str(NOW + 90_000)
    )
    with pytest.raises(InvalidInput, match="signature"):
        Token.parse(text).verify(KEY.public, ASKED, NOW)


def test_an_expired_token_says_to_compare_clocks() -> None:
    token = Token.parse(write_token(KEY, ASKED, b"body", NOW))
    with pytest.raises(InvalidInput, match=r"expired.*compare the clocks"):
        token.verify(KEY.public, ASKED, NOW)


def test_a_token_that_lasts_too_long_is_refused() -> None:
    token = Token.parse(write_token(KEY, ASKED, b"body", NOW + LONGEST_MS + 1))
    with pytest.raises(InvalidInput, match="too long"):
        token.verify(KEY.public, ASKED, NOW)


@given(st.text(max_size=400))
def test_no_text_breaks_the_parser(text: str) -> None:
    with suppress(InvalidInput):
        Token.parse(text)
