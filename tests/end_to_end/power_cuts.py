"""What power cuts leave of a node's disk, and whether the node can go on from it.

    make power-cuts COUNT=3000      # or: python tests/end_to_end/power_cuts.py --images 500

Three real nodes commit in one process under strace, which writes down every write, sync, rename and
removal in the folder of the first, with its bytes, and in between what that node told others:
votes, heights, cosigned heads, receipts of clients. From that list disks are made as a power cut at
some point may leave them: all that was synced, and of the rest nothing, all, or any of it in any
order, torn into sectors of 512 or 4,096 bytes. Each is opened by the product's own code.

What must hold of each disk, for everything that was told before the cut: a receipt's entry stands
at its place; a vote above the final tip is in the journal; no height, and no cosigned head, is
above what is there; and nothing calls for the operator, since a power cut is no damage.

The idea is ALICE's and CrashMonkey's (OSDI 2014, 2018). Left out: the order of directory entries
(names change at once here), and what file systems do to data that was synced.
"""

import argparse
import asyncio
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from lacking import lacks
from network import free_port

from tilth_ledger import core
from tilth_ledger.blocks import Vote
from tilth_ledger.errors import TilthError
from tilth_ledger.journal_records import OwnVote, Promised, decode_record
from tilth_ledger.keys import SigningKey
from tilth_ledger.leaf import write_entry
from tilth_ledger.messages import Cosignatures, Proposal, Status, Votes, decode_message
from tilth_ledger.replica import Replica
from tilth_node import assemble, config, founding, keystore, logs
from tilth_node.clock import Clock
from tilth_node.node import Node
from tilth_node.rpc.peers import Peers
from tilth_node.storage import database, row_tables
from tilth_node.storage.cosignatures import CosignatureStore

LETTERS = "abc"
NAMES = [f"hospital-{letter}" for letter in LETTERS]
ENTRIES = 36
SHORT_LOG_BYTES = 96 << 10
SHORT_JOURNAL_BYTES = 12 << 10
FEW_KEYS = 24  # that wait until they are merged
CALLS = "openat,write,pwrite64,fsync,fdatasync,rename,unlink,ftruncate"
MARKS = "told"


def needs_strace() -> None:
    """Nothing here goes without."""
    if shutil.which("strace") is None or os.geteuid() != 0:
        lacks("what a power cut leaves is made from a trace: root and strace")


# -- the process that is traced


def found_consortium(root: Path) -> None:
    """Folders of three nodes."""
    for name in NAMES:
        founding.init(root / name, founding.Site(name, name, peer_port=free_port()), Clock())
    members = [root / name / "member.json" for name in NAMES]
    genesis = founding.new_network("three", members, [], q=None, k=None)
    (root / "genesis.json").write_bytes(genesis.bytes)
    for name in NAMES:
        founding.join(root / name, root / "genesis.json")


class Telling:
    """Writes down what the first node tells, before it does."""

    def __init__(self, root: Path) -> None:
        self._file = os.open(root / MARKS, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def __call__(self, **facts: object) -> None:
        os.write(self._file, json.dumps(facts).encode() + b"\n")

    def peers(self) -> type[Peers]:
        tell = self

        class TellingPeers(Peers):
            def send(
                self, organization: str, messages: Sequence[bytes], *, later: bool = False
            ) -> None:
                if self.me.organization == NAMES[0]:
                    for data in messages:
                        tell.message(data)
                super().send(organization, messages, later=later)

        return TellingPeers

    def message(self, data: bytes) -> None:
        match decode_message(data):
            case Votes(votes):
                for vote in votes:
                    self(vote=vote.encode().hex())
            case Proposal(vote, _):
                self(vote=vote.encode().hex())
            case Status() as status:
                self(height=status.height)
            case Cosignatures() as said:
                self(head=said.size if any(each.member == 0 for each in said.signatures) else 0)


def entry(node: Node, number: int) -> bytes:
    public = SigningKey.from_seed(number.to_bytes(32)).public.hex
    operation = {"op": "identity.add", "public": public, "roles": ["scientist"]}
    admin = keystore.load_admin(node.folder.keys)
    nonce = number.to_bytes(16).hex()
    return bytes(
        write_entry(node.genesis.net, node.organization, admin, nonce, [operation]).encode()
    )


async def commit(root: Path) -> None:
    """Three nodes, entries at each of them, receipts of the first told."""
    core.COMPACT_BYTES, database.LOG_BYTES = SHORT_JOURNAL_BYTES, SHORT_LOG_BYTES
    row_tables.MERGE_ROWS = FEW_KEYS
    tell = Telling(root)
    assemble.Peers = tell.peers()  # type: ignore[misc]
    async with AsyncExitStack() as stack:
        nodes = []
        for name in NAMES:
            node = assemble.build(config.load(root / name))
            await node.start()
            stack.push_async_callback(node.stop)
            nodes.append(node)
        for number in range(0, ENTRIES, 4):
            some = [(nodes[at % 3], entry(nodes[at % 3], at)) for at in range(number, number + 4)]
            told = await asyncio.gather(*(n.replication.submit(leaf) for n, leaf in some))
            for (node, leaf), receipt in zip(some, told, strict=True):
                if node is nodes[0]:
                    tell(index=receipt.index, leaf=leaf.hex())
        os._exit(0)  # nothing is closed


# -- the list of what happened to the disk


@dataclass(frozen=True)
class Step:
    """One thing that happened: to a file, or `told`."""

    what: str  # write, size, sync, rename, gone, told
    path: str = ""
    at: int = 0
    data: bytes = b""
    to: str = ""
    told: dict[str, object] = field(default_factory=dict)


LINE = re.compile(r"^(\d+) +(?:<\.\.\. )?(\w+)(?: resumed>|\()(.*)$")
TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
FILE = re.compile(r"^\d+<([^>]*)>")


def unhex(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def plain(path: str) -> str:
    """A path as strace shows it."""
    return unhex(path).decode() if path.startswith("\\x") else path


def calls_of(trace: Path) -> Iterator[tuple[str, str]]:
    """Completed calls with their arguments, in the order in which they ended."""
    open_calls: dict[str, str] = {}
    for line in trace.read_text().splitlines():
        found = LINE.match(line)
        if found is None:
            continue
        process, name, rest = found.groups()
        if rest.endswith("<unfinished ...>"):
            open_calls[process] = rest.removesuffix("<unfinished ...>")
        elif "resumed>" in line[: found.end(2) - found.start() + 12]:
            yield name, open_calls.pop(process, "") + rest
        else:
            yield name, rest


def steps_of(trace: Path, root: Path, folder: Path) -> list[Step]:
    """What happened below a folder."""
    steps: list[Step] = []
    sizes: dict[str, int] = {}
    for name, text in calls_of(trace):
        if " = -1 " in text:
            continue
        step = _step(name, text, str(root / MARKS), f"{folder}/", sizes)
        if step is not None:
            steps.append(step)
    return steps


def _step(name: str, text: str, marks: str, below: str, sizes: dict[str, int]) -> Step | None:
    texts = [unhex(each) for each in TEXT.findall(text)]
    held = FILE.match(text)
    path = plain(held.group(1)) if held else ""
    if path == marks and name == "write":
        return Step("told", told=json.loads(texts[0]))
    if name in ("rename", "unlink", "openat"):
        path = next((each.decode() for each in texts), "")
    if not path.startswith(below) and path + "/" != below:
        return None
    path = path.removeprefix(below).rstrip("/")
    match name:
        case "write":
            at = sizes.get(path, 0)
            sizes[path] = at + len(texts[0])
            return Step("write", path, at, texts[0])
        case "pwrite64":
            at = int(text.rsplit(" = ", 1)[0].rstrip(" )").rsplit(", ", 1)[1])
            sizes[path] = max(sizes.get(path, 0), at + len(texts[0]))
            return Step("write", path, at, texts[0])
        case "ftruncate":
            size = int(text.rsplit(" = ", 1)[0].rstrip(" )").rsplit(", ", 1)[1])
            sizes[path] = size
            return Step("size", path, size)
        case "openat" if "O_TRUNC" in text or "O_CREAT" in text:
            if "O_TRUNC" in text:
                sizes[path] = 0
            return Step("size", path, sizes.setdefault(path, 0))
        case "fsync" | "fdatasync":
            return Step("sync", path)
        case "rename":
            to = texts[1].decode().removeprefix(below)
            sizes[to] = sizes.pop(path, 0)
            return Step("rename", path, to=to)
        case "unlink":
            sizes.pop(path, None)
            return Step("gone", path)
    return None


def recorded(root: Path) -> list[Step]:
    """Trace three nodes that commit."""
    needs_strace()
    found_consortium(root)
    shutil.copytree(root / NAMES[0], root / "before")
    trace = root / "trace"
    command = ["strace", "-f", "-y", "-xx", "-s", str(1 << 22), "-o", str(trace)]
    command += ["-e", f"trace={CALLS}", sys.executable, __file__, "--commit", str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    steps = steps_of(trace, root, root / NAMES[0])
    trace.unlink()
    return steps


# -- disks that a power cut leaves


@dataclass
class File:
    """A file's bytes that are on the disk for certain, and what is on its way there."""

    synced: bytes = b""
    pending: list[Step] = field(default_factory=list)


@dataclass
class Chance:
    """Which of what was not synced is there, by dice; `keep`: the chance of each write."""

    random: random.Random
    keep: float
    sector: int

    def image(self, file: File) -> bytes:
        """What a file holds after the cut."""
        data = bytearray(file.synced)
        for step in file.pending:
            if self.random.random() >= self.keep:
                continue
            if step.what == "size":
                _resize(data, step.at)
            else:
                self._write(data, step, torn=self.keep < 1 and self.random.random() < 0.3)
        return bytes(data)

    def _write(self, data: bytearray, step: Step, *, torn: bool) -> None:
        end = step.at + len(step.data)
        if len(data) < end:
            _resize(data, end)
        start = step.at
        while start < end:
            border = min(end, start + self.sector - start % self.sector)
            if not torn or self.random.random() < 0.5:
                data[start:border] = step.data[start - step.at : border - step.at]
            start = border


def _resize(data: bytearray, size: int) -> None:
    del data[size:]
    data.extend(bytes(size - len(data)))


@dataclass
class Disk:
    """The folder, as far as the steps have come."""

    files: dict[str, File]
    told: list[dict[str, object]] = field(default_factory=list)

    @classmethod
    def of(cls, folder: Path) -> "Disk":
        paths = (path for path in folder.rglob("*") if path.is_file())
        return cls({str(p.relative_to(folder)): File(p.read_bytes()) for p in paths})

    def take(self, step: Step) -> None:
        """One step further. Names change at once: before a rename the file was synced, and the
        folder is right after it."""
        file = self.files.setdefault(step.path, File()) if step.what in ("write", "size") else None
        if step.what == "told":
            self.told.append(step.told)
        elif file is not None:
            file.pending.append(step)
        elif step.what == "sync" and step.path in self.files:
            synced = Chance(random.Random(0), 1, 512).image(self.files[step.path])
            self.files[step.path] = File(synced)
        elif step.what == "rename":
            self.files[step.to] = self.files.pop(step.path)
        elif step.what == "gone":
            self.files.pop(step.path, None)

    def write(self, folder: Path, chance: Chance) -> None:
        """Make the disk."""
        for path, file in self.files.items():
            if path.endswith("-shm"):
                continue  # shared memory
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            target.write_bytes(chance.image(file))
            target.chmod(0o600 if path.startswith("keys") else 0o644)


# -- the product on such a disk


@dataclass(frozen=True)
class Found:
    """What a node finds at its start."""

    leaves: list[bytes]
    height: int
    final_view: int
    votes: frozenset[Vote]
    head: int
    promised: int
    doubtful: bool


def opened(folder: Path) -> Found:
    """Start a node's storage and replica as `assemble` does. Raises what that raises."""
    node = assemble.build(config.load(folder))
    try:
        tip = node.store.tip()
        height, view = (0, 0) if tip is None else (tip.header.height, tip.header.view)
        replica: Replica = node.replication.replica
        records = [decode_record(body) for body in node.journal.records]
        held = frozenset(each.vote for each in records if isinstance(each, OwnVote))
        promised = max((r.height for r in records if isinstance(r, Promised)), default=0)
        assert replica.height == height
        heads = CosignatureStore(node.folder.cosignatures)
        newest = heads.newest[0]
        heads.close()
        leaves = node.store.leaves(0, node.store.size)
        return Found(leaves, height, view, held, newest, promised, node.journal.damaged)
    finally:
        node.journal.close()
        node.cosigning.close()
        node.store.close()


def judge(disk: Disk, found: Found) -> list[str]:
    """What was told and is not there."""
    wrong: list[str] = []
    for told in disk.told:
        match told:
            case {"index": int(index), "leaf": str(leaf)}:
                kept = index < len(found.leaves) and found.leaves[index] == bytes.fromhex(leaf)
                wrong += [] if kept else [f"entry {index} was acknowledged and is lost"]
            case {"vote": str(text)}:
                vote = Vote.decode(bytes.fromhex(text))
                own = vote.member == 0 and vote.view > found.final_view
                lost = own and vote not in found.votes
                wrong += [f"a {vote.kind.name} of view {vote.view} is forgotten"] if lost else []
            case {"height": int(height)} if height > found.height:
                wrong.append(f"height {height} was told, and {found.height} is there")
            case {"head": int(size)} if size > found.head:
                wrong.append(f"head {size} was cosigned, and {found.head} is recorded")
    if found.doubtful:
        wrong.append("a power cut is taken for damage")
    if found.promised > found.height:
        wrong.append(f"{found.promised} blocks were promised, and {found.height} are there")
    return wrong


@dataclass
class Explorer:
    """Tries cuts."""

    steps: list[Step]
    before: Disk
    work: Path
    random: random.Random
    tried: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def cut(self, at: int, kind: str) -> None:
        """A power cut after so many steps; `kind` says what of the unsynced is there."""
        disk = Disk({path: replace(file) for path, file in self.before.files.items()})
        for step in self.steps[:at]:
            disk.take(step)
        keep = {"all": 1.0, "nothing": 0.0}.get(kind, self.random.choice((0.2, 0.5, 0.9)))
        chance = Chance(self.random, keep, 4096 if kind == "torn at 4096" else 512)
        folder = self.work / "site"
        shutil.rmtree(folder, ignore_errors=True)
        disk.write(folder, chance)
        self.tried[kind] += 1
        try:
            found = judge(disk, opened(folder))
        except TilthError as error:
            found = [f"it does not start: {error}"]
        if found:
            self.wrong += [f"cut {at}, {kind}: {each}" for each in found]
            with suppress(FileExistsError):
                shutil.copytree(folder, self.work / f"cut-{at}-{kind.replace(' ', '-')}")

    def explore(self, images: int) -> None:
        """So many disks, from all over the list, with cuts around syncs first."""
        kinds = ("all", "nothing", "torn at 512", "torn at 4096")
        ends = [i for i, step in enumerate(self.steps, 1) if step.what != "told"]
        some = self.random.sample(ends, min(len(ends), -(-images // len(kinds))))
        for number in range(images):
            self.cut(some[number // len(kinds) % len(some)], kinds[number % len(kinds)])


def explored(root: Path, *, images: int, seed: int) -> Explorer:
    """Record, cut, open; raises AssertionError when the trace lacks what it is about."""
    steps = recorded(root)
    kinds = Counter(step.what for step in steps)
    for needed in ("write", "sync", "rename", "told", "size"):
        assert kinds[needed], f"no {needed} was traced: {kinds}"
    logs.configure(level="CRITICAL", lines="text")
    explorer = Explorer(steps, Disk.of(root / "before"), root, random.Random(seed))
    explorer.cut(len(steps), "all")
    explorer.explore(images)
    return explorer


def main() -> None:
    """As many disks as asked, then a report as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commit", type=Path, help=argparse.SUPPRESS)
    said = parser.parse_args()
    if said.commit is not None:
        asyncio.run(commit(said.commit))
    begun = time.monotonic()
    root = Path(tempfile.mkdtemp(prefix="power-cuts-"))
    explorer = explored(root, images=said.images, seed=said.seed)
    took = round(time.monotonic() - begun)
    report = {"steps": len(explorer.steps), "disks": explorer.tried, "seconds": took}
    print(json.dumps(report | {"wrong": explorer.wrong[:20]}))
    if not explorer.wrong:
        shutil.rmtree(root)
    sys.exit(bool(explorer.wrong))


if __name__ == "__main__":
    main()
