"""Records a ledger under the rules in force, as a fixture that every later release must audit.

    make recorded-ledger            # tests/ledger/fixtures/rules_N, N being the newest version

Every version of the rules stays in the code for ever, and so does a ledger that followed it:
`test_recorded_ledgers.py` audits each whole and verifies its bundle. A recorded one is never made
again once a release has shipped its rules; a new version gets a new folder.

    genesis.json    the consortium's genesis
    ledger.xz       blocks: header, justification, certificate, leaves
    rows.xz         the rows of the last block, and the state of its set hash
    facts.json      what an audit must come to
    row.json        the proof bundle of a certified row, made on the last head
"""

import json
import lzma
import struct
import sys
from hashlib import sha256
from pathlib import Path

from audited_chain import Chain
from members_world import MembersWorld, file_of
from rules_world import MEAN_DIGEST, Digits, digest, named_key, named_mldsa

from tilth_ledger import bundle, limits
from tilth_ledger.audit import StoredBlock
from tilth_ledger.audit_rows import Stored
from tilth_ledger.blocks import NOTARIZE, Vote
from tilth_ledger.checkpoints import origin_of
from tilth_ledger.cosigning import CosignKeys, Head, publish, sign, sign_mldsa
from tilth_ledger.epoch_chain import epoch_chain
from tilth_ledger.epochs import signers_of
from tilth_ledger.evidence import Evidence
from tilth_ledger.genesis import RULES_VERSION, Genesis
from tilth_ledger.leaf import Leaf
from tilth_ledger.merkle import Frontier, leaf_hash
from tilth_ledger.standing import standing

FIXTURES = Path(__file__).parent / "fixtures"
A, B, C, D = "hospital-a", "hospital-b", "hospital-c", "clinic-d"
NOW = 1_800_000_000  # seconds; of cosignatures
LENGTH = struct.Struct(">I")


class Recorded(Chain, MembersWorld):
    """Real blocks over every kind of operation and every kind of change of who votes."""

    def __init__(self):
        self.cosign_labels = {}
        super().__init__(quantum=True)
        self.digits = Digits(self, (A, B), A)
        self.digits.grant_all()

    def change_members(self, change, q, k, by):
        self.time_ms += 1_000
        self.change(change, q, k, by)


def history():
    """The ledger, and the certified results of the row that its bundle proves."""
    world = Recorded()
    certified = federated_averaging(world)
    registrations(world)
    approvals(world)
    troubles(world)
    withdrawals(world)
    members(world)
    world.time_ms += limits.BOARD_PAUSE_MS
    board = {"op": "leaderboard.record", "objective": world.digits.objective}
    world.submit(B, board)
    world.submit(A, {"op": "organization.update", "name": "A, in the end"}, role="admin")
    return world, certified


def federated_averaging(world):
    tasks, final, _ = world.digits.fedavg(B, rounds=1)
    objective = world.digits.objective
    world.plan(A, tasks, final=[final["key"]], objectives=[objective], open=True)
    world.run_all()
    world.submit(A, {"op": "plan.close", "plan": world.row(f"task/{final['key']}")["plan"]})
    consent = {"task": final["key"], "output": "model", "right": "use"}
    world.submit(A, {"op": "model.widen", **consent, "organizations": [C]})
    world.submit(A, {"op": "model.narrow", **consent, "grant": [A, B]})
    rows = world.rows.scan(f"certified/{objective}/")
    return sorted(row["index"] for _, row in rows)


def registrations(world):
    environment = world.environment(C)
    image = {"op": "image.add", "key": world.key(C), "environment": environment}
    file = {"digest": digest("file"), "size": 7}
    world.submit(C, {**image, "image": digest("image"), "file": file})
    world.submit(C, {"op": "image.withdraw", "key": image["key"]})
    brought = {"op": "model.import", "key": world.key(C), "origin": "elsewhere"}
    world.submit(C, brought | world.file("weights") | {"grants": {"use": "public"}})
    accepted = {"op": "algo.accept", "dataset": world.digits.datasets[A], "algo": MEAN_DIGEST}
    world.submit(A, accepted)
    key = world.add_identity(C, "a visitor", ["auditor", "scientist"], expires_ms=2**50)
    world.submit(C, {"op": "identity.revoke", "identity": key.key_id}, role="admin")
    # Its scores disagree, it is pooled, and its second revision is on other samples.
    test_set = world.digits.test_sets[B]
    pooled = world.objective(B, [test_set], combine="pooled")
    other = world.set(world.digits.datasets[B], "test")
    sets = [{"dataset": world.digits.datasets[B], "set": other}]
    world.submit(B, {"op": "objective.revise", "key": pooled, "sets": sets})
    world.grant(world.digits.datasets[A], "updates", "public")
    train = world.digits.train(A)
    test = world.digits.test(B, train, objective=pooled)
    test["data"] = {"dataset": world.digits.datasets[B], "set": other}
    world.plan(A, [train, test])
    world.run(train)
    matrix = {"labels": [0, "1"], "matrix": [[6, 1], [0, 3]]}
    world.run(test, score={"value": "0.9", "count": 10, "statistics": matrix})
    world.submit(B, {"op": "objective.withdraw", "key": pooled})


def approvals(world):
    guarded = Digits(world, (B,), A, approval="required")
    guarded.grant_all()
    first, second = guarded.train(B), guarded.train(B, seed=7)
    plan = world.plan(A, [first, second], on_failure="continue")
    word = {"key": world.key(B), "dataset": guarded.datasets[B]}
    world.submit(B, {"op": "approval.give", **word, "plan": plan, "runs": 1})
    world.run(first)
    word["key"] = world.key(B)
    world.submit(B, {"op": "approval.deny", **word, "plan": plan})


def troubles(world):
    trained = [world.digits.train(site) for site in (A, B)]
    mix = world.digits.mix(trained, B, need={"at_least": 1})
    world.plan(A, [*trained, mix], on_failure="continue")
    world.doing(trained[0])
    world.failed(trained[0])
    world.submit(A, {"op": "task.retry", "task": trained[0]["key"]})
    world.run(trained[0])
    world.submit(A, {"op": "task.close", "task": mix["key"]})
    world.submit(B, {"op": "task.cancel", "task": trained[1]["key"]}, role="admin")
    plan = world.plan(A, [world.digits.train(A)])
    world.skip = 2  # views without a block, proven by nullifications
    world.submit(A, {"op": "plan.cancel", "plan": plan})
    epoch = world.in_force()
    votes = [
        Vote.sign(epoch, named_key(f"{C} vote"), 2, NOTARIZE, 4, bytes([n]) * 32) for n in (1, 2)
    ]
    world.record(Evidence.of(*votes).leaf(world.genesis.net))


def withdrawals(world):
    dataset = world.dataset(C)
    test_set = world.set(dataset, "test")
    held = f"set-sample/{test_set}/"
    sample = next(name.removeprefix(held) for name, _ in world.rows.scan(held))
    world.submit(C, {"op": "sample.withdraw", "key": sample})
    world.submit(C, {"op": "dataset.withdraw", "key": dataset})
    world.submit(C, {"op": "algo.withdraw", "key": world.algo(C)})


def members(world):
    """Every kind of change; tasks of the organization that is removed fail with it."""
    copy = {"copy": world.copy_of(f"{D} vote")}
    file = file_of(D, mldsa=named_mldsa(D))
    admit = {"kind": "admit", "member": file, "votes": True, **copy}
    world.change_members(admit, 3, 3, (A, B))
    world.change_members({"kind": "quorum"}, 3, 4, (A, B, C))
    file = file_of(A, mldsa=named_mldsa("second"), vote="second vote", cosign="second cosign")
    world.vote_labels[A], world.cosign_labels[A] = "second vote", "second"
    world.change_members({"kind": "rotate", "member": file}, 3, 3, (A, B, D))
    world.change_members({"kind": "votes", "organization": B, "votes": False}, 2, 3, (A, B, D))
    back = {"copy": world.copy_of(f"{B} vote")}
    again = {"kind": "votes", "organization": B, "votes": True, **back}
    world.change_members(again, 3, 3, (A, D))
    world.change_members({"kind": "remove", "organization": C}, 2, 2, (A, D, B))


# -- what is written


def write(folder):
    world, certified = history()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "genesis.json").write_bytes(world.genesis.bytes)
    (folder / "ledger.xz").write_bytes(lzma.compress(b"".join(map(_block, world.stored()))))
    stored = world.beside()
    rows = b"".join(_bytes(key.encode()) + _bytes(value) for key, value in stored.rows)
    (folder / "rows.xz").write_bytes(lzma.compress(_bytes(stored.accumulator) + rows))
    facts = json.dumps(facts_of(world.genesis, world.stored(), stored), indent=2)
    (folder / "facts.json").write_text(facts + "\n")
    (folder / "row.json").write_bytes(_bundle(world, certified))


def facts_of(genesis, blocks, stored):
    """What stands in a recorded ledger, in numbers and digests."""
    leaves = [Leaf.decode(leaf) for block in blocks for leaf in block.leaves]
    entries = [json.loads(leaf.payload) for leaf in leaves if leaf.type == 1]
    rows = sha256()
    for key, value in stored.rows:
        rows.update(_bytes(key.encode()) + _bytes(value))
    last = blocks[-1]
    return {
        "net": genesis.net,
        "rules_version": max(
            json.loads(row)["rules_version"] for key, row in stored.rows if key.startswith("epoch/")
        ),
        "height": last.height,
        "size": last.size,
        "last header": last.header.hex(),
        "rows": len(list(stored.rows)),
        "sha256 of rows": rows.hexdigest(),
        "leaf types": sorted({leaf.type for leaf in leaves}),
        "operations": sorted({op["op"] for entry in entries for op in entry["operations"]}),
        "changes of members": [
            json.loads(leaf.payload)["change"]["kind"] for leaf in leaves if leaf.type == 0x0103
        ],
    }


def _bytes(data):
    return LENGTH.pack(len(data)) + data


def _block(block):
    parts = (block.header, block.justification, block.certificate or b"", *block.leaves)
    return LENGTH.pack(len(parts)) + b"".join(map(_bytes, parts))


def _bundle(world, certified):
    leaf_at, held = world.leaves.__getitem__, _nodes(world.leaves)
    block, certificate = world.blocks[-1]
    header = block.header

    def final_with(index):
        found = next(each for each in world.blocks if each[0].header.size > index)
        return found[0].header, found[1]

    signers = signers_of(world.rows, header.epoch, world.genesis)
    listed = {each.organization: each.cosign_mldsa for each in world.genesis.everyone()}
    board = bundle.stood(
        world.rows, leaf_at, certified, lambda *wanted: standing(world.rows, *wanted)
    )
    proven = bundle.Proven(
        header.size,
        _checkpoint(world, Head.of(header), signers),
        bundle.Finality(header, certificate),
        epoch_chain(world.rows, leaf_at, lambda level, at: held[level, at], final_with),
        {
            member.organization: member.mldsa
            for member in signers.members
            if member.mldsa != listed.get(member.organization)
        },
        board,
    )
    return bundle.make(
        world.genesis,
        proven,
        certified,
        leaf_at,
        lambda level, at: held[level, at],
        world.rows,
        since=10,
    )


def _checkpoint(world, head, signers):
    origin, found = origin_of(world.genesis.name, world.genesis.net), {}
    for place, member in enumerate(signers.members):
        name = member.organization
        label = world.cosign_labels.get(name, name)
        keys = CosignKeys(
            named_key(f"{name} log"), named_key(f"{label} cosign"), named_mldsa(label)
        )
        given = (head, origin, place, member, keys, NOW)
        found |= {
            (name, each.type): each.signature for each in (*sign(*given), *sign_mldsa(*given))
        }
    return publish(head, found, signers, origin, A)


def _nodes(leaves):
    frontier, held = Frontier(), {}
    for leaf in leaves:
        frontier, new = frontier.append(leaf_hash(leaf))
        held |= {(level, index): hashed for level, index, hashed in new}
    return held


# -- what is read


def read(folder):
    """(genesis, stored blocks, what stands beside them) of a recorded ledger."""
    genesis = Genesis.parse((folder / "genesis.json").read_bytes())
    blocks, size, frontier = [], 0, Frontier()
    for parts in _frames(lzma.decompress((folder / "ledger.xz").read_bytes())):
        header, justification, certificate, *leaves = parts
        nodes = []
        for leaf in leaves:
            frontier, new = frontier.append(leaf_hash(leaf))
            nodes += new
        size += len(leaves)
        blocks.append(
            StoredBlock(
                *(len(blocks) + 1, size, header, justification),
                *(tuple(leaves), certificate or None, tuple(nodes)),
            )
        )
    parts = list(_parts(lzma.decompress((folder / "rows.xz").read_bytes())))
    rows = [(key.decode(), value) for key, value in zip(parts[1::2], parts[2::2], strict=True)]
    return genesis, blocks, Stored(rows, parts[0], size, 2 * size - size.bit_count())


def _frames(data):
    at = 0
    while at < len(data):
        (count,) = LENGTH.unpack_from(data, at)
        parts = list(_parts(data, at + LENGTH.size, count))
        at += LENGTH.size + sum(LENGTH.size + len(part) for part in parts)
        yield parts


def _parts(data, at=0, count=None):
    while at < len(data) and count != 0:
        (length,) = LENGTH.unpack_from(data, at)
        at += LENGTH.size
        yield data[at : at + length]
        at += length
        count = None if count is None else count - 1


if __name__ == "__main__":
    target = FIXTURES / f"rules_{RULES_VERSION}"
    write(target)
    sys.stdout.write(f"{target}: {sum(f.stat().st_size for f in target.iterdir())} bytes\n")
