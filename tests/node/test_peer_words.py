"""What another node says when it fails: words to be told, never a reason to stop this one."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
from google.protobuf.message import DecodeError

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


async def echo(organization: str, body: bytes) -> AsyncIterator[bytes]:
    yield body


def frame_of(chance: random.Random) -> pb.PeerFrame | None:
    """Any frame: of any kind, with any numbers, some with damaged bytes. None if it is none."""
    number = chance.choice([0, 1, 1, 2, 3, 2**32 - 1])
    size = chance.choice([0, 1, 50, 200_000, 1_100_000])
    word = chance.choice(["echo", "past", "ping", "", "x" * 200])
    made = chance.choice(
        [
            pb.PeerFrame(ask=pb.Ask(id=number, method=word, body=bytes(size))),
            pb.PeerFrame(chunk=pb.Chunk(id=number, data=bytes(size), last=chance.random() < 0.3)),
            pb.PeerFrame(failure=pb.Failure(id=number, error=chance.choice(NO_WORDS))),
            pb.PeerFrame(credit=pb.Credit(id=number, bytes=chance.choice([0, 1, 2**32 - 1]))),
            pb.PeerFrame(cancel=pb.Cancel(id=number)),
            pb.PeerFrame(hello=pb.Hello(net="n", organization=word)),
            pb.PeerFrame(),
        ]
    )
    data = bytearray(made.SerializeToString()[:100_000])
    if data and chance.random() < 0.3:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        try:
            return pb.PeerFrame.FromString(bytes(data))
        except DecodeError:
            return None
    return made


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_frames_come_it_is_the_peer_that_is_at_fault(seed: int) -> None:
    chance = random.Random(seed)
    sent: list[pb.PeerFrame] = []
    asks = Asks("other", {"echo": echo}, sent.append)
    asking = asyncio.ensure_future(asked(asks, "past"))
    await asyncio.sleep(0)
    try:
        for _ in range(60):
            if (frame := frame_of(chance)) is not None:
                asks.receive(frame)
            await asyncio.sleep(0)
    except PeerFault:
        pass  # the link would end here
    asks.close()
    [ended] = await asyncio.gather(asking, return_exceptions=True)
    assert ended is None or isinstance(ended, TilthError)
    await asyncio.sleep(0)
    assert asks._open == asks._answering == {}
