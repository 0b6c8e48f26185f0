"""One node's disk, and a child process that commits to it and is killed, thousands of times.

    make quick-kills COUNT=10000    # or: python tests/end_to_end/quick_kills.py --kills 100

The child is the product's node without its ports: journal, ledger, cosignatures and the replica of
a consortium of one, built by `assemble` and driven by `Replication`. It is forked from a process
that has imported everything, opens the folder, says what it finds, commits entries and tells each
receipt through a pipe, until it is killed: while it opens the folder, or some microseconds after a
receipt, as chance picks. Logs are short here, so that they are copied and compacted often, and few
keys of rows wait until they are merged into their index.

Each next child must find every entry that was acknowledged, at its place, byte for byte, and no
smaller ledger; its journal must be whole and it must vote. Every 250 kills the folder is scrubbed
and audited from its bytes, and a new one is begun.
"""

import argparse
import asyncio
import json
import os
import random
import select
import signal
import struct
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tilth_ledger import core
from tilth_ledger.canonical import dumps
from tilth_ledger.genesis import Genesis
from tilth_ledger.keys import SigningKey
from tilth_ledger.leaf import write_entry
from tilth_node import assemble, auditing, config, founding, keystore, logs, scrubbing
from tilth_node.clock import Clock
from tilth_node.folder import Folder
from tilth_node.storage import database, row_tables

KILLS_OF_A_FOLDER = 250
LOOKED_AT = 24  # of the newest acknowledged entries, by each child
LONGEST_OPENING_SECONDS = 0.08
MOST_RECEIPTS = 12
REPEATED = 2
GIVEN_UP_SECONDS = 200.0
SHORT_LOG_BYTES = 256 << 10
SHORT_JOURNAL_BYTES = 4 << 10
FEW_KEYS = 24

TOLD = struct.Struct(">QQ")  # number of an entry, its index; first of all: the size, 0


@dataclass
class Disk:
    """A folder that outlives its processes, and what they acknowledged."""

    path: Path
    genesis: Genesis
    admin: SigningKey
    receipts: dict[int, int] = field(default_factory=dict)
    size: int = 0  # as a child found it last
    begun: int = 0  # entries that were handed over

    @classmethod
    def found(cls, path: Path) -> "Disk":
        """A consortium of one."""
        founding.init(path, founding.Site("alone", "Alone"), Clock())
        file = path.parent / f"{path.name}.json"
        file.write_bytes(
            founding.new_network("one", [path / "member.json"], [], q=None, k=None).bytes
        )
        genesis = founding.join(path, file)
        return cls(path, genesis, keystore.load_admin(path / "keys"))

    def entry(self, number: int) -> bytes:
        """The same bytes whenever it is asked for."""
        public = SigningKey.from_seed(number.to_bytes(32)).public.hex
        operation = {"op": "identity.add", "public": public, "roles": ["scientist"]}
        nonce = number.to_bytes(16).hex()
        entry = write_entry(self.genesis.net, "alone", self.admin, nonce, [operation])
        return bytes(entry.encode())


def child(disk: Disk, pipe: int) -> None:
    """Open the folder, look at what was acknowledged, commit until killed."""
    core.COMPACT_BYTES = SHORT_JOURNAL_BYTES
    database.LOG_BYTES = SHORT_LOG_BYTES
    row_tables.MERGE_ROWS = FEW_KEYS
    asyncio.run(commit(disk, pipe))


async def commit(disk: Disk, pipe: int) -> None:
    """What the child does."""
    with Folder(disk.path).locked():
        node = assemble.build(config.load(disk.path))
        for number in list(disk.receipts)[-LOOKED_AT:]:
            [leaf] = node.store.leaves(disk.receipts[number], 1)
            assert leaf == disk.entry(number), f"entry {number} is not what was acknowledged"
        tasks = [asyncio.create_task(node.replication.run())]
        tasks.append(asyncio.create_task(node.cosigning.run()))
        os.write(pipe, TOLD.pack(node.store.size, 0))
        number = max(disk.begun - REPEATED, 0)  # some again: they get the same receipt
        while True:
            receipt = await node.replication.submit(disk.entry(number))
            os.write(pipe, TOLD.pack(number, receipt.index))
            number += 1


@dataclass
class Loop:
    """Kills one child after the other."""

    chance: random.Random
    kills: Counter[str] = field(default_factory=Counter)

    def strike(self, disk: Disk) -> None:
        """One life of a child: what it says is compared, and then it is killed."""
        reading, writing = os.pipe()
        process = os.fork()
        if process == 0:
            os.close(reading)
            try:
                child(disk, writing)
            except BaseException as error:
                os.write(2, f"{type(error).__name__}: {error}\n".encode())
            finally:
                os._exit(3)
        os.close(writing)
        try:
            self._watch(disk, process, reading)
        finally:
            os.close(reading)

    def _watch(self, disk: Disk, process: int, pipe: int) -> None:
        early = self.chance.random() < 0.25
        receipts = 0 if early else self.chance.randrange(MOST_RECEIPTS)
        told = b""
        if early:
            select.select([], [], [], self.chance.uniform(0, LONGEST_OPENING_SECONDS))
        else:
            told = self._read(pipe, 1 + receipts)
            select.select([], [], [], self.chance.uniform(0, 0.003))
        os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        assert os.WIFSIGNALED(status), f"the child ended by itself, see above: {disk.path}"
        while part := os.read(pipe, 1 << 16):
            told += part
        self.kills["while it opens the folder" if len(told) < TOLD.size else "as it commits"] += 1
        self._compare(disk, told)

    def _read(self, pipe: int, records: int) -> bytes:
        told, due = b"", time.monotonic() + GIVEN_UP_SECONDS
        while len(told) < records * TOLD.size:
            ready, _, _ = select.select([pipe], [], [], max(0.0, due - time.monotonic()))
            assert ready, "the child says nothing"
            part = os.read(pipe, 1 << 16)
            assert part, "the child ended"
            told += part
        return told

    def _compare(self, disk: Disk, told: bytes) -> None:
        records = [TOLD.unpack_from(told, at) for at in range(0, len(told) // 16 * 16, 16)]
        if not records:
            return
        (size, _), *receipts = records
        assert size >= max(disk.size, 1 + max(disk.receipts.values(), default=-1)), "it shrank"
        disk.size = size
        for number, index in receipts:
            assert disk.receipts.setdefault(number, index) == index, "another receipt"
            disk.begun = max(disk.begun, number + 1)


def check(disk: Disk) -> int:
    """Everything that was acknowledged, from the bytes of the folder; how many entries that is."""
    scrubbed = scrubbing.scrub(disk.path)
    assert scrubbed.clean, dumps([each.what for each in scrubbed.damages])
    report = auditing.audit(disk.path)
    assert report.clean, report.findings
    store = assemble.LedgerStore(Folder(disk.path).database)
    leaves = store.leaves(0, store.size)
    store.close()
    for number, index in disk.receipts.items():
        assert leaves[index] == disk.entry(number), f"entry {number}"
    return len(disk.receipts)


def quick_kills(folder: Path, *, kills: int, seed: int) -> tuple[Counter[str], int]:
    """How many kills of which kind there were, and how many receipts outlived them."""
    logs.configure(level="ERROR", lines="text")
    loop, kept = Loop(random.Random(seed)), 0
    while (done := loop.kills.total()) < kills:
        disk = Disk.found(folder / f"{done}")
        for _ in range(min(KILLS_OF_A_FOLDER, kills - done)):
            loop.strike(disk)
        kept += check(disk)
        print(f"{loop.kills.total()} kills, {kept} receipts", file=sys.stderr, flush=True)
    return loop.kills, kept


def main() -> None:
    """As many kills as asked, then a report as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    said = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        kills, kept = quick_kills(Path(folder), kills=said.kills, seed=said.seed)
    took = round(time.monotonic() - begun)
    print(json.dumps({"kills": kills, "receipts": kept, "seed": said.seed, "seconds": took}))


if __name__ == "__main__":
    main()
