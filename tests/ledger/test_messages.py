"""Messages between members: exact, bounded, and never an error but the declared one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stage import Stage

from tilth_ledger.blocks import FINALIZE, NOTARIZE, NULLIFY
from tilth_ledger.errors import InvalidInput
from tilth_ledger.evidence import Evidence
from tilth_ledger.messages import (
    MAX_MESSAGE_BYTES,
    Accusation,
    Barrier,
    Body,
    Certificates,
    Chain,
    Cosignatures,
    FetchBlock,
    FetchChain,
    Gossip,
    Message,
    Proposal,
    Signed,
    Status,
    Votes,
    decode_message,
)


def examples() -> list[Message]:
    stage = Stage(4, away=[0, 1, 2, 3])
    first, state = stage.block(1, ["a", "b"])
    notarized = stage.certificate(NOTARIZE, 1, first.hash)
    skips = [stage.certificate(NULLIFY, 2)]
    second, _ = stage.block(3, [], first, notarized, skips, state)
    votes = tuple(stage.vote(m, FINALIZE, 3, second.hash) for m in range(3))
    return [
        Gossip(()),
        Gossip((b"", b"leaf", b"x" * 65_535)),
        Proposal(stage.vote(3, NOTARIZE, 3, second.hash), second),
        Votes(votes),
        Certificates((notarized, *skips)),
        Status(0, 9, 8, 7, 6, 5, bytes(range(32)), True, votes[:1]),
        Status(0, 1, 1, 0, 0, 0, bytes(32), False, ()),
        FetchBlock(second.hash),
        Body(first),
        FetchChain(12),
        Chain((first.encode(), second.encode()), stage.certificate(FINALIZE, 3, second.hash)),
        Chain((), None),
        Accusation((Evidence.of(stage.vote(2, NULLIFY, 3), votes[2]),)),
        Accusation(()),
        Barrier((b"n" * 16, bytes(16))),
        Cosignatures(False, 0, 0, bytes(32), ()),
        Cosignatures(
            True,
            7,
            300,
            bytes(range(32)),
            (Signed(0, 1, b"l" * 64), Signed(1, 4, b"c" * 72), Signed(1, 6, b"m" * 2428)),
        ),
    ]


EXAMPLES = examples()


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda m: type(m).__name__)
def test_a_message_comes_back_as_it_was(message: Message) -> None:
    assert decode_message(message.encode()) == message


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda m: type(m).__name__)
def test_a_message_that_is_cut_short_or_too_long_is_refused(message: Message) -> None:
    data = message.encode()
    for cut in {1, len(data) // 2, len(data) - 1} - {len(data)}:
        with pytest.raises(InvalidInput):
            decode_message(data[:cut])
    with pytest.raises(InvalidInput):
        decode_message(data + b"\0")


def test_an_unknown_kind_is_ignored() -> None:
    assert decode_message(b"\xf0whatever") is None


def test_an_empty_message_and_a_huge_one_are_refused() -> None:
    for data in (b"", bytes(MAX_MESSAGE_BYTES + 1)):
        with pytest.raises(InvalidInput):
            decode_message(data)


def test_a_count_beyond_the_bound_is_refused_before_anything_is_read() -> None:
    for data in (b"\x01\xff\xff", b"\x03\xff\xff", b"\x04\xff\xff", b"\x09\x00\xff\xff"):
        with pytest.raises(InvalidInput, match="lists too much"):
            decode_message(data)


@given(st.binary(max_size=400))
def test_any_bytes_decode_or_are_refused(data: bytes) -> None:
    try:
        message = decode_message(data)
    except InvalidInput:
        return
    assert message is None or message.encode() == data


@given(st.sampled_from(EXAMPLES), st.data())
def test_a_changed_byte_never_raises_anything_else(message: Message, data: st.DataObject) -> None:
    encoded = bytearray(message.encode())
    place = data.draw(st.integers(0, len(encoded) - 1))
    encoded[place] ^= data.draw(st.integers(1, 255))
    try:
        decoded = decode_message(bytes(encoded))
    except InvalidInput:
        return
    assert decoded is None or decoded.encode() == bytes(encoded)
