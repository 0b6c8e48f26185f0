"""Large ledgers in nodes' folders, made by driving the real executor and store, and kept for the
next run below ~/.cache/tilth/benchmarks (they take minutes to make and need no network).

    ledger = large(1_000_000)          # entries of one operation, in blocks of 250
    ledger.folder("hospital-a")        # a node's folder with keys, genesis.json and ledger.db

Every block is what three members, two of them voting, would have made final: real signatures of
authors, real votes, every rule executed. Only syncs are left out while it is made.
"""

import os
import shutil
import sqlite3
import sys
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from tilth_ledger.blocks import FINALIZE, NOTARIZE, Block, Certificate, Header, Justification, Vote
from tilth_ledger.canonical import dumps, sha256_hex
from tilth_ledger.epochs import Epoch
from tilth_ledger.execution import Executor
from tilth_ledger.genesis import Genesis
from tilth_ledger.keys import SigningKey
from tilth_ledger.leaf import write_entry
from tilth_ledger.lthash import LtHash
from tilth_ledger.merkle import Frontier
from tilth_node import founding, keystore
from tilth_node.clock import Clock
from tilth_node.storage.ledger_store import VERSION, LedgerStore

NAMES = ("hospital-a", "hospital-b", "hospital-c")
VOTERS = (0, 1)
BLOCK_LEAVES = 250
BLOCKS_AT_ONCE = 8
FIRST_MS = 1_760_000_000_000  # past: nodes go on from there


def cache():
    """Where large ledgers are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "tilth" / "benchmarks"


@dataclass(frozen=True)
class Large:
    """A ledger in the folder of its first member; the others have keys and genesis only."""

    path: Path
    entries: int

    def folder(self, name=NAMES[0]):
        return self.path / name

    @property
    def genesis(self):
        return Genesis.parse((self.folder() / "genesis.json").read_bytes())

    def copy(self, to):
        """Folders that a benchmark may change; the ledger's file is copied."""
        shutil.copytree(self.path, to)
        return Large(Path(to), self.entries)


class Growing:
    """A ledger that is open and grows by blocks."""

    def __init__(self, large, operations=1):
        self.operations = operations
        folder = large.folder()
        self.genesis = large.genesis
        self.store = LedgerStore(folder / "ledger.db")
        self.executor = Executor(self.genesis, self.store.rows)
        self.admin = keystore.load_admin(folder / "keys")
        self.votes = [keystore.load(large.folder(NAMES[i]) / "keys").vote for i in VOTERS]
        self.epoch = Epoch.first(self.genesis)
        tip = self.store.tip()
        if tip is None:
            self.parent, self.view, self.height, self.time_ms = self.genesis.net_bytes, 0, 0, 0
            first = self.executor.genesis_state()
            if not self.store.seeded:
                self.store.seed(first.changes, first.accumulator)
            self.state = self.executor.load(Frontier(), first.accumulator, 0)
            self._dataset()
        else:
            header = tip.header
            self.parent, self.view = header.hash, header.view
            self.height, self.time_ms = header.height, header.time_ms
            self.state = self.executor.load(tip.frontier, tip.accumulator, header.time_ms)

    def _dataset(self):
        """What entries are about: everything that a sample needs, and its person may register."""
        public = person().public.hex
        add = {"op": "identity.add", "public": public, "roles": ["owner"]}
        spec = {"python": "3.11", "requirements": ["numpy"]}
        environment = {"op": "environment.add", "key": name_of("environment"), "name": "numpy"}
        environment |= {"spec": spec, "digest": sha256_hex(dumps(spec))}
        dataset = {"op": "dataset.add", "key": name_of("dataset"), "name": "digits"}
        dataset |= {"opener": f"{1:064x}", "environment": name_of("environment")}
        self.store.apply(*self.block([self.entry(0, [add], self.admin)]))
        self.store.apply(*self.block([self.entry(1, [environment, dataset])]))

    def entry(self, number, operations, key=None):
        """A leaf, signed by a person of the first member."""
        nonce = f"{number:032x}"
        signer = key or person()
        return write_entry(self.genesis.net, NAMES[0], signer, nonce, operations).encode()

    def leaves(self, count):
        """Entries of so many samples each."""
        first = self.state.size
        return [
            self.entry(first + n, [sample(first + n, k) for k in range(self.operations)])
            for n in range(count)
        ]

    def block(self, leaves, *, verify=False):
        """One block more: what the store applies."""
        for leaf in () if verify else leaves:
            self.executor.prepare(leaf)  # signed here: nobody needs to verify it
        self.time_ms = max(self.time_ms + 1, FIRST_MS)
        built = self.executor.build(self.state, leaves, self.time_ms)
        assert not built.refused, built.refused[0]
        state = built.state
        why = Justification(
            None if self.height == 0 else self._certificate(NOTARIZE, self.view, self.parent)
        )
        view = self.view + 1
        header = Header(
            net=self.genesis.net_bytes,
            epoch=0,
            view=view,
            height=self.height + 1,
            parent=self.parent,
            parent_view=self.view,
            skips=why.skips_digest,
            leaf_count=len(built.leaves),
            size=state.size,
            root=state.root,
            state=state.digest,
            time_ms=self.time_ms,
            proposer=self.epoch.leader(view),
        )
        block = Block(header, built.leaves, why)
        self.parent, self.view, self.height, self.state = block.hash, view, header.height, state
        return [(block, state)], self._certificate(FINALIZE, view, block.hash)

    def grow(self, leaves, *, verify=False):
        """One block more, durable."""
        self.store.apply(*self.block(leaves, verify=verify))
        self.executor.settle(self.state)

    def _certificate(self, kind, view, block):
        votes = [
            Vote.sign(self.epoch, key, member, kind, view, block)
            for member, key in zip(VOTERS, self.votes, strict=True)
        ]
        return Certificate.of(votes, len(self.genesis.members))


def person():
    """Who signs the entries."""
    return SigningKey.from_seed(b"person".ljust(32, b"."))


def name_of(text):
    """A key of the first member's, the same every time."""
    return f"{NAMES[0]}/{sha256(text.encode()).hexdigest()[:32]}"


def sample(entry, number):
    """The operation that registers one sample."""
    text = f"sample {entry} {number}"
    digest = sha256(text.encode()).hexdigest()
    return {
        "op": "sample.add",
        "datasets": [name_of("dataset")],
        "label": "train",
        "samples": [{"key": name_of(text), "commitment": digest, "tag": digest[::-1]}],
    }


def large(entries, operations=1, progress=True):
    """The ledger of so many entries, from the cache or made now."""
    # Another set hash, or time, is another ledger.
    kind = LtHash().add("", FIRST_MS.to_bytes(8)).digest().hex()[:8]
    path = cache() / f"ledger-{VERSION}-{kind}-{entries}x{operations}"
    if not path.is_dir():
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        shutil.rmtree(draft, ignore_errors=True)
        _found(draft)
        _fill(Large(draft, entries), operations, progress=progress)
        draft.rename(path)
    return Large(path, entries)


def _found(path):
    path.mkdir(parents=True)
    for number, name in enumerate(NAMES):
        site = founding.Site(organization=name, name=name, peer_port=39_001 + number)
        founding.init(path / name, site, Clock())
    members = [path / name / "member.json" for name in NAMES]
    genesis = founding.new_network("large", members, [], q=None, k=None, public=True)
    (path / "genesis.json").write_bytes(genesis.bytes)
    for name in NAMES:
        founding.join(path / name, path / "genesis.json")


def _fill(ledger, operations, *, progress):
    growing = Growing(ledger, operations)
    growing.store._database._writer.execute("PRAGMA synchronous = OFF")
    begun, told = time.perf_counter(), 0
    per_block = min(BLOCK_LEAVES, max(1, 4_000 // operations))
    while (size := growing.state.size) < ledger.entries:
        blocks = []
        for _ in range(BLOCKS_AT_ONCE):
            left = ledger.entries - growing.state.size
            if left > 0:
                some, certificate = growing.block(growing.leaves(min(left, per_block)))
                blocks += some
        growing.store.apply(blocks, certificate)
        growing.executor.settle(growing.state)
        if progress and size - told >= 50_000:
            told = size
            seconds = time.perf_counter() - begun
            print(f"{size} entries in {seconds:.0f} s", file=sys.stderr, flush=True)
    growing.store.close()
    with sqlite3.connect(ledger.folder() / "ledger.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
