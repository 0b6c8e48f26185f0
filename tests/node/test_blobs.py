"""Blobs between nodes: resumed after a cut, checked while streaming, served by right only."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path

import pytest

from tilth_ledger.canonical import dumps
from tilth_ledger.errors import InvalidInput, Refused, Unavailable
from tilth_ledger.rows import MemoryRows
from tilth_node.runtimes import EnvironmentMissing, NodeFault, Shipped
from tilth_node.storage.vault import Vault
from tilth_node.worker import blobs
from tilth_node.worker.blobs import Blobs, Wanted
from tilth_node.worker.images import ImageFiles

Handler = Callable[[str, bytes], AsyncIterator[bytes]]
MODEL = bytes(range(256)) * 4096  # 1 MiB
DIGEST = hashlib.sha256(MODEL).hexdigest()
GIB = 1 << 30


class Wire:
    """Connections within this process; `cut` ends each answer after so many bytes."""

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {}
        self.cut: dict[str, int] = {}
        self.asked: list[tuple[str, bytes]] = []

    def of(self, organization: str) -> "Ends":
        return Ends(self, organization)


class Ends:
    """The wire as one organization has it."""

    def __init__(self, wire: Wire, organization: str) -> None:
        self.wire, self.organization = wire, organization

    def serve(self, method: str, handler: Handler) -> None:
        assert method == "blob"
        self.wire.handlers[self.organization] = handler

    async def request(
        self, organization: str, method: str, body: bytes
    ) -> AsyncGenerator[bytes, None]:
        self.wire.asked.append((organization, body))
        if organization not in self.wire.handlers:
            raise Unavailable(f"there is no connection to {organization} now")
        left = self.wire.cut.get(organization, GIB)
        async for piece in self.wire.handlers[organization](self.organization, body):
            if len(piece) > left:
                raise Unavailable(f"the connection to {organization} ended")
            left -= len(piece)
            yield piece


class Node:
    def __init__(self, wire: Wire, folder: Path, organization: str, rows: MemoryRows) -> None:
        self.vault = Vault(folder / organization, floor_bytes=0)
        self.ledger = Ledger()
        self.blobs = Blobs(organization, self.vault, rows, wire.of(organization), self.ledger)


class Ledger:
    """How far a node has come."""

    def __init__(self) -> None:
        self.size = 7
        self.grown = asyncio.Event()

    async def at_least(self, size: int) -> None:
        while self.size < size:
            await self.grown.wait()


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def rows() -> MemoryRows:
    """A ledger on which `maker` imported the model, for `user` to use."""
    model = {
        "key": "maker/1",
        "digest": DIGEST,
        "size": len(MODEL),
        "owner": "maker",
        "raw": [],
        "mixed": [],
        "imports": ["maker/1"],
        "cap": {"use": ["maker", "second", "user"], "download": ["maker"]},
    }
    return MemoryRows({f"blob/{DIGEST}/model/maker/1": b"{}", "model/maker/1": dumps(model)})


@pytest.fixture
def maker(wire: Wire, tmp_path: Path, rows: MemoryRows) -> Node:
    node = Node(wire, tmp_path, "maker", rows)
    node.vault.write(MODEL)
    return node


@pytest.fixture
def user(wire: Wire, tmp_path: Path, rows: MemoryRows, maker: Node) -> Node:
    return Node(wire, tmp_path, "user", rows)


def wanted(*holders: str, size: int | None = len(MODEL)) -> Wanted:
    return Wanted(DIGEST, holders, GIB, size)


def ask(digest: str, offset: int = 0) -> bytes:
    return dumps({"digest": digest, "offset": offset, "size": 0})


async def test_a_blob_comes_over_whole(user: Node) -> None:
    await user.blobs.ensure(wanted("maker"))
    assert user.vault.load(DIGEST) == MODEL


async def test_two_who_want_it_fetch_it_once(wire: Wire, user: Node) -> None:
    await asyncio.gather(*(user.blobs.ensure(wanted("maker")) for _ in range(5)))
    assert len(wire.asked) == 1


async def test_a_cut_transfer_goes_on_from_another_holder(
    wire: Wire, user: Node, tmp_path: Path, rows: MemoryRows
) -> None:
    second = Node(wire, tmp_path, "second", rows)
    second.vault.write(MODEL)
    wire.cut["maker"] = 300_000
    await user.blobs.ensure(wanted("maker", "second"))
    assert user.vault.load(DIGEST) == MODEL
    assert b'"offset":262144' in wire.asked[1][1]


async def test_a_transfer_goes_on_after_a_restart(
    wire: Wire, user: Node, tmp_path: Path, rows: MemoryRows
) -> None:
    wire.cut["maker"] = 300_000
    with pytest.raises(Unavailable):
        await user.blobs.ensure(wanted("maker"))
    del wire.cut["maker"]
    restarted = Node(wire, tmp_path, "user", rows)
    await restarted.blobs.ensure(wanted("maker"))
    assert restarted.vault.load(DIGEST) == MODEL
    assert b'"offset":262144' in wire.asked[-1][1]


async def test_bytes_that_do_not_have_the_digest_are_not_kept(wire: Wire, user: Node) -> None:
    async def lie(organization: str, body: bytes) -> AsyncIterator[bytes]:
        yield len(MODEL).to_bytes(8)
        yield bytes(len(MODEL))

    wire.handlers["maker"] = lie
    with pytest.raises(Unavailable, match="do not have its digest"):
        await user.blobs.ensure(wanted("maker"))
    assert not user.vault.has(DIGEST)
    assert user.vault.partial_size(DIGEST) == 0


@pytest.mark.parametrize("size", [len(MODEL) + 1, 1 << 60])
async def test_another_size_than_the_ledger_says_is_refused_at_once(
    wire: Wire, user: Node, size: int
) -> None:
    async def lie(organization: str, body: bytes) -> AsyncIterator[bytes]:
        yield size.to_bytes(8)
        raise AssertionError("nobody may want more")

    wire.handlers["maker"] = lie
    with pytest.raises(Unavailable, match="something else"):
        await user.blobs.ensure(wanted("maker"))


async def test_an_answer_without_a_size_is_the_peers_fault(wire: Wire, user: Node) -> None:
    async def mumble(organization: str, body: bytes) -> AsyncIterator[bytes]:
        yield b"1234"

    wire.handlers["maker"] = mumble
    with pytest.raises(Unavailable, match="without a size"):
        await user.blobs.ensure(wanted("maker"))


@pytest.mark.rule("P6")
async def test_who_lacks_the_right_is_refused_by_the_holder(
    wire: Wire, maker: Node, tmp_path: Path, rows: MemoryRows
) -> None:
    stranger = Node(wire, tmp_path, "stranger", rows)
    with pytest.raises(Refused) as refused:
        await stranger.blobs.ensure(wanted("maker"))
    assert refused.value.rule == "P6"
    assert not stranger.vault.has(DIGEST)


@pytest.mark.rule("P4")
async def test_a_right_that_was_taken_back_binds_the_next_ask(
    wire: Wire, user: Node, rows: MemoryRows
) -> None:
    narrowed = rows.get("model/maker/1") or {}
    rows.apply({"model/maker/1": dumps(narrowed | {"cap": {"use": ["maker"], "download": []}})})
    with pytest.raises(Refused):
        await user.blobs.ensure(wanted("maker"))


async def test_a_holder_that_is_a_block_behind_answers_when_it_has_caught_up(
    user: Node, maker: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blobs, "CATCH_UP_SECONDS", 100.0)
    user.ledger.size = 8
    fetching = asyncio.create_task(user.blobs.ensure(wanted("maker")))
    await asyncio.wait([fetching], timeout=0.05)
    assert not fetching.done()
    maker.ledger.size = 8
    maker.ledger.grown.set()
    await fetching
    assert user.vault.has(DIGEST)


async def test_nobody_there_is_said_with_the_names(user: Node) -> None:
    with pytest.raises(Unavailable, match=r"cannot be had now.*nowhere"):
        await user.blobs.ensure(wanted("nowhere"))


async def test_a_holder_that_lost_it_is_passed_over(wire: Wire, user: Node, maker: Node) -> None:
    maker.vault.remove(DIGEST)
    with pytest.raises(Unavailable, match="does not hold this blob"):
        await user.blobs.ensure(wanted("maker"))


async def test_what_the_ledger_here_does_not_name_yet_is_worth_asking_again(maker: Node) -> None:
    with pytest.raises(Unavailable, match="does not name this blob yet"):
        async for _ in maker.blobs.serve("user", ask("0" * 64)):
            pass


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"digest":"x","offset":0,"size":0}',
        b'{"digest":1,"offset":0,"size":0}',
        b'{"digest":"%s","offset":0,"size":-1}' % DIGEST.encode(),
        b"[" * 500,
    ],
)
async def test_a_malformed_ask_is_refused(maker: Node, body: bytes) -> None:
    with pytest.raises((InvalidInput, Refused)):
        async for _ in maker.blobs.serve("user", body):
            pass


async def test_a_negative_offset_is_refused(maker: Node) -> None:
    with pytest.raises(InvalidInput):
        async for _ in maker.blobs.serve(
            "user", dumps({"digest": DIGEST, "offset": -1, "size": 0})
        ):
            pass


@pytest.mark.rule("P6")
async def test_who_has_a_blob_can_show_it_and_nothing_is_kept(user: Node) -> None:
    await user.blobs.shown(DIGEST, "maker", GIB)
    assert not user.vault.has(DIGEST)


@pytest.mark.rule("P6")
async def test_who_has_other_bytes_shows_nothing(user: Node, wire: Wire) -> None:
    async def liar(organization: str, body: bytes) -> AsyncIterator[bytes]:
        yield len(MODEL).to_bytes(8) + bytes(len(MODEL))

    wire.handlers["maker"] = liar
    with pytest.raises(Refused, match="does not have it"):
        await user.blobs.shown(DIGEST, "maker", GIB)


@pytest.mark.rule("P6")
async def test_an_endless_show_is_ended_at_the_largest_size(user: Node, wire: Wire) -> None:
    async def endless(organization: str, body: bytes) -> AsyncIterator[bytes]:
        yield len(MODEL).to_bytes(8)
        while True:
            yield MODEL

    wire.handlers["maker"] = endless
    with pytest.raises(Refused, match="does not have it"):
        await user.blobs.shown(DIGEST, "maker", 4 * len(MODEL))


async def test_a_holder_that_says_nothing_is_passed_over(
    user: Node, wire: Wire, rows: MemoryRows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(organization: str, body: bytes) -> AsyncIterator[bytes]:
        try:
            yield len(MODEL).to_bytes(8)
            await asyncio.Event().wait()
        finally:  # the next one may take as long as a busy machine needs
            monkeypatch.setattr(blobs, "SILENCE_SECONDS", 100.0)

    monkeypatch.setattr(blobs, "SILENCE_SECONDS", 0.05)
    wire.handlers["silent"] = silent
    await user.blobs.ensure(wanted("silent", "maker"))
    assert user.vault.has(DIGEST)


# -- images


IMAGE = Shipped("maker", "1" * 64, DIGEST, len(MODEL))


@pytest.fixture
def offering(wire: Wire, tmp_path: Path) -> MemoryRows:
    """A ledger on which `maker` offers an image under the file of MODEL, to `user` alone."""
    file = {"digest": DIGEST, "size": len(MODEL)}
    row = {"owner": "maker", "status": "active", "image": "1" * 64, "file": file}
    row |= {"grants": {"use": ["maker", "user"]}}
    ledger = MemoryRows({f"blob/{DIGEST}/image/maker/1": b"{}", "image/maker/1": dumps(row)})
    Node(wire, tmp_path, "maker", ledger).vault.write(MODEL)
    return ledger


async def test_an_image_s_file_goes_on_after_a_cut_and_is_gone_when_the_engine_has_it(
    wire: Wire, tmp_path: Path, offering: MemoryRows
) -> None:
    node = Node(wire, tmp_path, "user", offering)
    files = ImageFiles("user", offering, node.vault, node.blobs)
    wire.cut["maker"] = 300_000
    with pytest.raises(Unavailable):
        async with files(IMAGE):
            pass
    del wire.cut["maker"]
    async with files(IMAGE) as path:
        assert path.read_bytes() == MODEL
    assert b'"offset":262144' in wire.asked[-1][1]
    assert not node.vault.has(DIGEST)


async def test_an_image_s_file_stays_while_the_engine_has_no_room_and_where_it_is_offered(
    wire: Wire, tmp_path: Path, offering: MemoryRows
) -> None:
    node, maker = (Node(wire, tmp_path, name, offering) for name in ("user", "maker"))
    with pytest.raises(NodeFault):
        async with ImageFiles("user", offering, node.vault, node.blobs)(IMAGE):
            raise NodeFault("the engine's disk is full")
    assert node.vault.has(DIGEST)
    async with ImageFiles("maker", offering, maker.vault, maker.blobs)(IMAGE):
        pass
    assert maker.vault.has(DIGEST)


@pytest.mark.rule("P6")
async def test_an_image_that_is_not_for_this_node_fails_the_task_with_the_remedy(
    wire: Wire, tmp_path: Path, offering: MemoryRows
) -> None:
    node = Node(wire, tmp_path, "stranger", offering)
    with pytest.raises(EnvironmentMissing, match=r"P6.*the image's grants"):
        async with ImageFiles("stranger", offering, node.vault, node.blobs)(IMAGE):
            pass
