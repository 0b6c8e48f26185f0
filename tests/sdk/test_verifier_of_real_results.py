"""What the rules certify, a bundle carries and the verifier accepts: they agree on every field."""

import hashlib

import pytest

from tilth import verifier
from tilth_ledger import bundle, canonical
from tilth_ledger.blocks import FINALIZE, Certificate, Header, Justification, Vote
from tilth_ledger.execution import Executor
from tilth_ledger.genesis import KEY_NAMES, Genesis, member_file, parse_member_file
from tilth_ledger.keys import SigningKey
from tilth_ledger.leaf import CERTIFIED_RESULT, Leaf, write_entry

SITES = ("north", "south")
PEM = "-----BEGIN CERTIFICATE-----\n" + "A" * 64 + "\n-----END CERTIFICATE-----\n"
MODEL, ARCHIVE, OPENER = "aa" * 32, "bb" * 32, "cc" * 32
METRIC = canonical.sha256_hex(b'{"builtin":"accuracy"}')
MATRICES = {"north": [[8, 2], [1, 9]], "south": [[3, 0], [0, 7]]}
SPEC = {"python": "3.11", "requirements": []}


def site(name):
    root = SigningKey.from_seed(name.encode().ljust(32, b"."))
    return {key: root.derive(key) for key in (*KEY_NAMES, "person")}


def key(owner, noun):
    return f"{owner}/{hashlib.sha256(noun.encode()).hexdigest()[:32]}"


class Ledger:
    """The real state machine, fed entry by entry."""

    def __init__(self):
        files = [member_file(name, name, site(name), PEM) for name in SITES]
        self.genesis = Genesis.write("real", map(parse_member_file, files), limits={})
        self.executor = Executor(self.genesis)
        self.state = self.executor.genesis_state()
        self.executor.rows.apply(self.state.changes)
        self.executor.settle(self.state)
        self.leaves, self.nodes = [], {}

    def write(self, organization, purpose, *operations):
        nonce = f"{len(self.leaves):032x}"
        signer = site(organization)[purpose]
        leaf = write_entry(self.genesis.net, organization, signer, nonce, operations)
        time_ms = self.state.time_ms + 1
        built = self.executor.build(self.state, [leaf.encode()], time_ms)
        assert built.refused == ()
        self.executor.rows.apply(built.state.changes)
        self.executor.settle(built.state)
        self.state = built.state
        self.nodes |= {(level, index): hashed for level, index, hashed in built.state.new_nodes}
        self.leaves += built.leaves

    def bundle(self, *wanted):
        header = Header(
            net=self.genesis.net_bytes,
            epoch=0,
            view=len(self.leaves),
            height=len(self.leaves),
            parent=b"p" * 32,
            parent_view=len(self.leaves) - 1,
            skips=Justification(None).skips_digest,
            leaf_count=1,
            size=self.state.size,
            root=self.state.root,
            state=self.state.digest,
            time_ms=self.state.time_ms,
            proposer=0,
        )
        votes = [
            Vote.sign(self.genesis, site(name)["vote"], place, FINALIZE, header.view, header.hash)
            for place, name in enumerate(SITES)
        ]
        return bundle.make(
            self.genesis,
            header,
            Certificate.of(votes, len(SITES)),
            wanted,
            self.leaves.__getitem__,
            lambda level, index: self.nodes[level, index],
            self.executor.rows,
        )


def people(ledger):
    roles = ["owner", "organizer", "scientist"]
    for name in SITES:
        public = site(name)["person"].public.hex
        ledger.write(name, "admin", {"op": "identity.add", "public": public, "roles": roles})


def data(ledger, name):
    """A dataset of one test sample in one set."""
    dataset, sample = key(name, "dataset"), key(name, "sample")
    environment = {
        "op": "environment.add",
        "key": key(name, "environment"),
        "name": "python",
        "digest": canonical.sha256_hex(canonical.dumps(SPEC)),
        "spec": SPEC,
    }
    added = {
        "op": "dataset.add",
        "key": dataset,
        "name": "digits",
        "opener": OPENER,
        "environment": environment["key"],
        "grants": {"test": "public"},
    }
    samples = {
        "op": "sample.add",
        "datasets": [dataset],
        "label": "test",
        "samples": [{"key": sample, "commitment": "dd" * 32, "tag": "ee" * 32}],
    }
    sealed = {
        "op": "sampleset.add",
        "key": key(name, "set"),
        "dataset": dataset,
        "label": "test",
        "part": 0,
        "parts": 1,
        "samples": [sample],
        "digest": canonical.sha256_hex(canonical.dumps([sample])),
        "count": 1,
    }
    ledger.write(name, "person", environment, added, samples, sealed)


def objective(ledger):
    goal = key("north", "objective")
    sets = [{"dataset": key(name, "dataset"), "set": key(name, "set")} for name in SITES]
    ledger.write(
        "north",
        "person",
        {
            "op": "objective.add",
            "key": goal,
            "name": "accuracy",
            "metric": {"builtin": "accuracy"},
            "direction": "maximize",
            "combine": "pooled",
            "sets": sets,
        },
    )
    for name in SITES[1:]:
        accepted = {"key": goal, "revision": 1, "set": key(name, "set"), "metric_digest": METRIC}
        ledger.write(name, "person", {"op": "objective.accept"} | accepted)


def plan(ledger):
    """An imported model, tested on every site."""
    algo, model, goal = (key("north", noun) for noun in ("algo", "model", "objective"))
    manifest = {"format": "python-1", "capabilities": ["predict"], "parameters": []}
    public = {"use": "public"}
    tests = [
        {
            "key": key("north", f"task of {name}"),
            "kind": "test",
            "worker": name,
            "algo": algo,
            "inputs": [{"name": "model", "model": model}],
            "data": {"dataset": key(name, "dataset"), "set": key(name, "set")},
            "objective": goal,
            "parameters": {},
            "seed": 0,
        }
        for name in SITES
    ]
    ledger.write(
        "north",
        "person",
        {
            "op": "algo.add",
            "key": algo,
            "name": "softmax",
            "archive": ARCHIVE,
            "manifest": manifest,
            "environment": key("north", "environment"),
            "grants": public,
        },
        {
            "op": "model.import",
            "key": model,
            "digest": MODEL,
            "size": 10,
            "format": "hdf5",
            "origin": "elsewhere",
            "grants": public,
        },
        {
            "op": "plan.add",
            "key": key("north", "plan"),
            "name": "tests",
            "objectives": [goal],
            "parts": 1,
        },
        {"op": "plan.tasks", "plan": key("north", "plan"), "part": 0, "tasks": tests},
    )


def report(ledger, name):
    task, matrix = key("north", f"task of {name}"), MATRICES[name]
    count = sum(map(sum, matrix))
    receipt = {
        "grade": "B",
        "labels": "sealed",
        "runtime": "sandbox",
        "inputs": {"model": MODEL},
        "codes": {"code": ARCHIVE, "opener": OPENER, "metric": METRIC},
        "set": canonical.sha256_hex(canonical.dumps([key(name, "sample")])),
    }
    score = {
        "value": f"{(matrix[0][0] + matrix[1][1]) / count:.6f}",
        "count": count,
        "statistics": {"labels": [0, 1], "matrix": matrix},
    }
    done = {"op": "task.done", "task": task, "attempt": 1, "outputs": {}}
    ledger.write(name, "node", {"op": "task.doing", "task": task, "attempt": 1})
    ledger.write(name, "node", done | {"score": score, "receipt": receipt})


@pytest.fixture(scope="module")
def ledger():
    ledger = Ledger()
    people(ledger)
    for name in SITES:
        data(ledger, name)
    objective(ledger)
    plan(ledger)
    for name in SITES:
        report(ledger, name)
    return ledger


def certified(ledger):
    return [
        index
        for index, leaf in enumerate(ledger.leaves)
        if Leaf.decode(leaf).type == CERTIFIED_RESULT
    ]


def test_what_the_rules_certified_is_proven_as_a_row(ledger):
    found = verifier.verify(ledger.bundle(*certified(ledger)), ledger.genesis.bytes)

    assert found.ok, found.refusal
    assert found.facts["score"] == "0.900000"  # 27 of 30
    assert [result["worker"] for result in found.facts["results"]] == list(SITES)
    assert found.facts["model"] == MODEL
    assert not any("who wrote" in text or "test sets" in text for text in found.not_proven)


def test_a_node_that_swaps_the_score_of_a_certified_result_is_refused(ledger):
    at = certified(ledger)[0]
    honest = ledger.leaves[at]
    try:
        ledger.leaves[at] = honest.replace(b"0.850000", b"0.950000")
        found = verifier.verify(ledger.bundle(at), ledger.genesis.bytes)
    finally:
        ledger.leaves[at] = honest

    assert honest.count(b"0.850000") == 1
    assert found.refusal["check"] == f"place of leaf {at} in the tree"
