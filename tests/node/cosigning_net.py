"""Nodes' stores and their parts in cosigning, connected in memory: for tests of what they sign.

Four sites: three members and a follower, on one history of final blocks that a test grows.
"""

import asyncio
from dataclasses import dataclass, field

from tilth_ledger import canonical
from tilth_ledger.blocks import FINALIZE, Block, Certificate, Header, Justification
from tilth_ledger.checkpoints import origin_of
from tilth_ledger.cosigning import CosignKeys
from tilth_ledger.epochs import Membership, Signer, Signers, epoch_key, membership_row
from tilth_ledger.genesis import KEY_NAMES, Genesis, member_file, parse_member_file
from tilth_ledger.keys import SigningKey
from tilth_ledger.leaf import CERTIFIED_RESULT, Leaf, write_entry
from tilth_ledger.lthash import LtHash
from tilth_ledger.merkle import Frontier, leaf_hash
from tilth_ledger.messages import decode_message
from tilth_ledger.mldsa import MlDsaSigningKey
from tilth_node.clock import Clock
from tilth_node.cosigning import Cosigning
from tilth_node.storage.cosignatures import CosignatureStore
from tilth_node.storage.ledger_store import LedgerStore

PEM = "-----BEGIN CERTIFICATE-----\n" + "A" * 64 + "\n-----END CERTIFICATE-----\n"
NAMES = ("north", "south", "west")
LONG = 100  # seconds: a test that waits so long fails


@dataclass(frozen=True)
class Keys:
    root: SigningKey

    @property
    def mldsa(self):
        return MlDsaSigningKey.from_seed(self.root.derive_seed("mldsa"))

    @property
    def all(self):
        return {name: self.root.derive(name) for name in KEY_NAMES}

    @property
    def cosigning(self):
        return CosignKeys(self.all["log"], self.all["cosign"], self.mldsa)


KEYS = {n: Keys(SigningKey.from_seed(n.encode().ljust(32, b"."))) for n in (*NAMES, "east")}
PARTIES = {
    name: parse_member_file(member_file(name, name, keys.all, PEM, mldsa=keys.mldsa))
    for name, keys in KEYS.items()
}
GENESIS = Genesis.write(
    "test",
    [PARTIES[n] for n in NAMES],
    [PARTIES["east"]],
    limits={},
    q=2,
    k=3,
    delta_ms=1,
    publication="public",
)
SIGNERS = {
    name: Signer(name, keys.all["log"].public, keys.all["cosign"].public, keys.mldsa.public)
    for name, keys in KEYS.items()
}
MEMBERS = Signers(0, tuple(SIGNERS[name] for name in NAMES), GENESIS.k)
ORIGIN = origin_of("test", GENESIS.net)
RESULT = Leaf(CERTIFIED_RESULT, b'{"predicate":{"objective":"north/0","revision":1}}').encode()


def entry(number):
    return write_entry(
        GENESIS.net, "north", KEYS["north"].all["admin"], f"{number:032x}", [{"op": "x.y"}]
    ).encode()


class History:
    """Final blocks that every node may be given."""

    def __init__(self, salt=0):
        self.frontier, self.parent, self.blocks, self.salt = Frontier(), bytes(32), [], salt

    def grow(self, *leaves):
        """One block more; of an integer, so many entries."""
        if leaves and isinstance(leaves[0], int):
            leaves = tuple(entry(self.salt + self.frontier.size + n) for n in range(leaves[0]))
        nodes = []
        for leaf in leaves:
            self.frontier, new = self.frontier.append(leaf_hash(leaf))
            nodes += new
        height, why = len(self.blocks) + 1, Justification(None)
        header = Header(
            *(GENESIS.net_bytes, 0, height, height, self.parent, height - 1, why.skips_digest),
            *(len(leaves), self.frontier.size, self.frontier.root(), LtHash().digest(), height, 0),
        )
        block = Block(header, tuple(leaves), why)
        self.parent = block.hash
        self.blocks.append((block, Changes(tuple(nodes))))
        return self


@dataclass(frozen=True)
class Changes:
    new_nodes: tuple
    changes: dict = field(default_factory=dict)
    accumulator: bytes = bytes(2048)


class Node:
    """One node's stores and its part in cosigning."""

    def __init__(self, net, name, folder):
        self.net, self.name, self.folder, self.height = net, name, folder, 0
        folder.mkdir(exist_ok=True)
        self.sent, self.alarms, self.task = [], [], None
        self.open()

    def open(self):
        self.ledger = LedgerStore(self.folder / "ledger.db")
        if not self.ledger.seeded:
            row = canonical.dumps(membership_row(Membership.of_genesis(GENESIS)))
            self.ledger.seed({epoch_key(0): row}, bytes(2048))
        self.store = CosignatureStore(self.folder / "cosignatures.db")
        self.part = Cosigning(
            GENESIS,
            self.name,
            KEYS[self.name].cosigning,
            lambda epoch: None if epoch else MEMBERS,
            self.ledger,
            self.store,
            self,
            Clock(),
        )
        self.part.on_alarm = lambda kind, message: self.alarms.append((kind, message))

    def start(self):
        self.task = asyncio.create_task(self.part.run())
        return self

    async def stop(self):
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
            self.task = None
        self.part.close()
        self.ledger.close()

    def follow(self, history, until=None):
        """Make the blocks final that are not yet, one batch."""
        new = history.blocks[self.height : until]
        last = new[-1][0]
        why = Certificate(FINALIZE, 0, last.header.view, last.hash, 3, (0,), (bytes(64),))
        self.ledger.apply(new, why)
        self.height += len(new)
        self.part.final([block for block, _ in new])
        return self

    # what cosigning sees of the connections

    @property
    def links(self):
        return {
            n: o for n, o in self.net.nodes.items() if o is not self and not self.net.cut(self, o)
        }

    def send(self, organization, messages):
        self.sent += messages
        other = self.links.get(organization)
        for data in messages if other else ():
            asyncio.get_running_loop().call_soon(
                other.part.received, self.name, decode_message(data)
            )

    async def cosigned(self, above=0, by=3):
        """The newest head with so many cosignatures; waits for it."""
        async with asyncio.timeout(LONG):
            while True:
                grown = self.part._grown
                for held in self.store.newest_first():
                    if held.head.size > above and held.cosigned >= by:
                        return held
                await grown.wait()


class Net:
    """Three members and a follower, some of them away."""

    def __init__(self, folder):
        self.away = set()
        self.nodes = {}
        for name in (*NAMES, "east"):
            self.nodes[name] = Node(self, name, folder / name)

    def cut(self, one, other):
        return bool({one.name, other.name} & self.away)

    def __getitem__(self, name):
        return self.nodes[name]

    def follow(self, history, *names):
        for name in names or self.nodes:
            self.nodes[name].follow(history)
