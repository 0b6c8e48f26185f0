"""Damaged bytes at every decoder: they decode to themselves, or raise the declared error."""

from __future__ import annotations

import pytest
from decoder import Decoder
from decoders import DECODERS
from hypothesis import given, settings
from hypothesis import strategies as st

TRIES = 60
NUMBERS = (b"\0", b"\xff" * 2, b"\xff" * 4, b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"\x80" + b"\0" * 7)


@st.composite
def damaged(draw: st.DrawFn, examples: tuple[bytes, ...]) -> bytes:
    """An example after a few changes, as bad memory, bad networks and bad people make them."""
    data = draw(st.sampled_from(examples))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 40)))
        piece = data[start:end]
        new = draw(
            st.one_of(
                st.just(b""),
                st.just(piece + piece),
                st.just(bytes(byte ^ 1 for byte in piece)),
                st.just(piece[::-1]),
                st.binary(max_size=12),
                st.sampled_from(NUMBERS),
            )
        )
        data = data[:start] + new + data[end:]
    return data if draw(st.booleans()) else data[: draw(st.integers(0, len(data)))]


def by_name(decoder: Decoder) -> str:
    return decoder.name


@pytest.mark.parametrize("decoder", DECODERS, ids=by_name)
def test_what_is_damaged_decodes_to_itself_or_is_refused(decoder: Decoder) -> None:
    @settings(max_examples=TRIES)
    @given(damaged(decoder.examples))
    def tries(data: bytes) -> None:
        decoder.attempt(data)

    tries()


@pytest.mark.parametrize("decoder", DECODERS, ids=by_name)
def test_the_examples_decode(decoder: Decoder) -> None:
    assert all(decoder.attempt(example) for example in decoder.examples)


def test_a_decoder_that_reads_two_forms_as_one_is_noticed() -> None:
    sloppy = Decoder("sloppy", bytes.strip, (b"x",), lambda value: value)
    assert sloppy.attempt(b"x")
    with pytest.raises(AssertionError, match="two forms"):
        sloppy.attempt(b" x")


def test_an_undeclared_error_is_noticed() -> None:
    with pytest.raises(ValueError, match="int"):
        Decoder("careless", int, (b"1",)).attempt(b"one")
