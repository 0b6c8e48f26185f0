"""What another node says when it fails: words to be told, never a reason to stop this one."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tilth_ledger import canonical
from tilth_ledger.errors import (
    Fatal,
    InvalidInput,
    PeerFault,
    Refused,
    SecondInstance,
    TilthError,
    Unavailable,
)
from tilth_node.rpc.asks import Asks, told
from tilth_protos import peers_pb2 as pb

NO_WORDS = [
    b"",
    b"[]",
    b"null",
    b'"words"',
    b"\xff\xfe",
    b'{"kind":null}',
    b'{"message":"\\ud800"}',
    b"[" * 50_000,
    b'{"kind":"refused","kind":"fatal"}',
    b'{"message":"' + b"x" * (1 << 17) + b'"}',
]


def joined(method: str, fails: Exception) -> Asks:
    """One side of a connection whose other side answers with an error."""

    async def fail(organization: str, body: bytes) -> AsyncIterator[bytes]:
        raise fails
        yield b""

    def answer(frame: pb.PeerFrame) -> None:
        other.receive(frame)

    mine = Asks("other", {}, answer)
    other = Asks("me", {method: fail}, mine.receive)
    return mine


async def asked(asks: Asks, method: str) -> None:
    async for _ in asks.ask(method, b""):
        pass


async def test_a_node_that_ends_by_its_own_fault_ends_nobody_else() -> None:
    with pytest.raises(PeerFault, match="its disk is broken"):
        await asked(joined("past", Fatal("its disk is broken")), "past")


@pytest.mark.parametrize(
    "error", [Refused("P6", "no"), InvalidInput("no"), Unavailable("no"), SecondInstance("no")]
)
async def test_any_other_error_arrives_as_what_it_was(error: TilthError) -> None:
    with pytest.raises(type(error)):
        await asked(joined("past", error), "past")


@pytest.mark.parametrize("words", NO_WORDS, ids=lambda words: repr(words[:12]))
def test_whatever_stands_for_words_it_is_a_fault_of_that_peer(words: bytes) -> None:
    assert isinstance(told(words), PeerFault)


def test_words_of_no_known_kind_are_told_as_they_are() -> None:
    assert told(canonical.dumps({"kind": "later", "message": "hm"})).message == "hm"
