"""A byte of a node's files is another than was written: the node names the file and what to run, or
gives the very answers that it gave before. Never silently wrong data, read or voted on.

A consortium of one, with nobody to ask. Its files are changed one byte at a time, and a real node
is built on them. FLIPS=1 takes every byte of journal and keys, each fourth of the genesis and each
16th of the databases (an hour); by itself the test takes a hundred places.
"""

import asyncio
import os
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from tilth_ledger.errors import TilthError
from tilth_ledger.keys import SigningKey
from tilth_ledger.leaf import write_entry
from tilth_node import assemble, config, founding, keystore, logs
from tilth_node.clock import Clock
from tilth_node.node import Node

ALL = os.environ.get("FLIPS") == "1"
ENTRIES = 12
KILLED = "killed"  # the folder as a kill leaves it, what became final last in the logs
SECONDS = 100  # what never comes fails then


def entry(node: Node, number: int) -> bytes:
    public = SigningKey.from_seed(number.to_bytes(32)).public.hex
    operation = {"op": "identity.add", "public": public, "roles": ["scientist"]}
    admin = keystore.load_admin(node.folder.keys)
    nonce = number.to_bytes(16).hex()
    return bytes(write_entry(node.genesis.net, "alone", admin, nonce, [operation]).encode())


@dataclass
class Answers:
    """All that can be asked of a ledger."""

    leaves: list[bytes]
    nodes: list[bytes]
    blocks: list[bytes | None]
    certificates: list[bytes | None]
    rows: dict[str, bytes | None]
    scanned: list[tuple[str, bytes]]
    touched: list[list[str]]
    votes: bool


def answers(node: Node, keys: list[str] | None = None) -> Answers:
    store = node.store
    size = store.size
    heights = range(1, ENTRIES + 1)
    scanned = list(store.rows.scan_bytes(""))
    names = [key for key, _ in scanned] if keys is None else keys
    return Answers(
        store.leaves(0, size),
        [hashed for level in range(5) for hashed in store.nodes(level, 0, size)],
        [store.block(height) for height in heights],
        [store.certificate(height) for height in heights],
        {key: store.rows.get_bytes(key) for key in names},
        scanned,
        [sorted(each) for each in store.touched_after(1) or ()],
        node.replication.replica.votes,
    )


def close(node: Node) -> None:
    node.journal.close()
    node.cosigning.close()
    node.store.close()


async def filled(path: Path) -> Answers:
    """A ledger with some entries, and what it answers."""
    node = assemble.build(config.load(path))
    running = asyncio.create_task(node.replication.run())
    async with asyncio.timeout(SECONDS):
        for number in range(ENTRIES):
            await node.replication.submit(entry(node, number))
    found = answers(node)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    shutil.copytree(path, path.with_name(KILLED))
    close(node)
    return found


async def started(path: Path, before: Answers) -> Answers:
    """What a node on this folder answers once it runs."""
    node = assemble.build(config.load(path))
    damage: list[Exception] = []
    node.store.on_damage(damage.append)
    running = asyncio.create_task(node.replication.run())
    try:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if running.done():
            running.result()
        if node.replication.alarm:
            raise TilthError(node.replication.alarm)
        found = answers(node, list(before.rows))
        if damage:
            raise damage[0]
        return found
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        close(node)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Answers]:
    """A folder as a node left it, its logs copied into its files."""
    logs.configure(level="CRITICAL", lines="text")
    root = tmp_path_factory.mktemp("flips")
    path = root / "alone"
    founding.init(path, founding.Site("alone", "Alone"), Clock())
    genesis = founding.new_network("one", [path / "member.json"], [], q=None, k=None)
    (root / "genesis.json").write_bytes(genesis.bytes)
    founding.join(path, root / "genesis.json")
    return path, asyncio.run(filled(path))


def places(data: bytes, most: int, stride: int) -> list[int]:
    if ALL:
        return list(range(0, len(data), stride))
    return sorted(random.Random(1).sample(range(len(data)), min(most, len(data))))


def wrong_outcome(path: Path, before: Answers, name: str) -> str:
    """Empty when the damage was named, or nothing is other than before."""
    try:
        found = asyncio.run(started(path, before))
    except TilthError as error:
        said = any(word in str(error) for word in ("tilth", "restore"))
        named = name in str(error) and (error.remedy or said)
        return "" if named else f"does not name file and remedy: {error}"
    except Exception as error:
        return f"no words: {type(error).__name__}: {error}"
    if not found.votes:
        return "it does not vote, and does not say why"
    if found.touched == []:
        found.touched = before.touched  # unknown: whoever watches gets all rows anew
    return "" if found == before else "silently wrong"


@pytest.mark.slow
@pytest.mark.rule("F8")
@pytest.mark.parametrize(
    ("name", "most", "stride"),
    [
        ("ledger.db", 32, 16),
        ("cosignatures.db", 8, 16),
        ("ledger.db-wal", 16, 16),
        ("cosignatures.db-wal", 6, 16),
        ("journal/votes", 8, 1),
        ("genesis.json", 8, 4),
        ("node.toml", 8, 1),
        ("keys/member.seed", 4, 1),
        ("keys/node.seed", 4, 1),
        ("keys/authority.key", 4, 1),
        ("keys/authority.pem", 6, 1),
    ],
)
def test_a_flipped_byte_is_named_or_changes_no_answer(
    whole: tuple[Path, Answers], tmp_path: Path, name: str, most: int, stride: int
) -> None:
    path, before = whole
    if name.endswith("-wal"):
        path = path.with_name(KILLED)
    data = (path / name).read_bytes()
    site = tmp_path / "site"
    wrong: list[str] = []
    for at in places(data, most, stride):
        shutil.rmtree(site, ignore_errors=True)
        shutil.copytree(path, site)
        changed = bytearray(data)
        changed[at] ^= 1 << at % 8
        (site / name).write_bytes(changed)
        if said := wrong_outcome(site, before, name.split("/")[-1].removesuffix("-wal")):
            wrong.append(f"byte {at}: {said[:300]}")
    assert not wrong, "\n".join(wrong)
