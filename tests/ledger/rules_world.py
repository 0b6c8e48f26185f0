"""A small consortium whose ledger is driven entry by entry, for tests of the rules.

Every accepted entry is executed twice, by a proposer and by a voter that shares nothing with it,
and both must come to the same root and digest.
"""

from hashlib import sha256

from tilth_ledger.canonical import dumps, sha256_hex
from tilth_ledger.execution import Executor
from tilth_ledger.genesis import KEY_NAMES, Genesis, member_file, parse_member_file
from tilth_ledger.keys import SigningKey
from tilth_ledger.leaf import write_entry
from tilth_ledger.lthash import LtHash
from tilth_ledger.mldsa import MlDsaSigningKey
from tilth_ledger.operations import builtin_digest
from tilth_ledger.rows import MemoryRows
from tilth_ledger.rules_data import set_digest
from tilth_ledger.transitions import effective_state

PEM = "-----BEGIN CERTIFICATE-----\n" + "A" * 64 + "\n-----END CERTIFICATE-----\n"
PERSON = ("owner", "organizer", "scientist")
START_MS = 1_700_000_000_000
SPEC = {"python": "3.11", "requirements": ["numpy"]}
PARAMETERS = [
    {"name": "rate", "type": "float", "default": "0.5", "low": "0", "high": "10"},
    {"name": "steps", "type": "int", "default": 5, "low": 1},
]
HOSPITALS = ("hospital-a", "hospital-b", "hospital-c")


def digest(text):
    return sha256(text.encode()).hexdigest()


def named_key(label):
    return SigningKey.from_seed(sha256(label.encode()).digest())


def named_mldsa(label):
    return MlDsaSigningKey.from_seed(named_key(label).derive_seed("cosign_mldsa"))


class World:
    """Organizations, their keys, and the ledger they share."""

    def __init__(
        self, organizations=HOSPITALS, aggregators=("hospital-b",), limits=None, quantum=False
    ):
        parties = []
        for name in organizations:
            keys = {purpose: named_key(f"{name} {purpose}") for purpose in KEY_NAMES}
            second = named_mldsa(name) if quantum else None
            public = member_file(
                name, name.title(), keys, PEM, aggregates=name in aggregators, mldsa=second
            )
            parties.append(parse_member_file(public))
        self.organizations = organizations
        self.genesis = Genesis.write("test", parties, limits=limits or {})
        self.time_ms = START_MS
        self.count = 0
        self.proposer, self.voter = self._replica(), self._replica()
        self.leaves = []
        for name in organizations:
            self.add_identity(name, f"{name} person", PERSON)

    def _replica(self):
        """An executor and its state, on rows of its own."""
        executor = Executor(self.genesis, MemoryRows())
        state = executor.genesis_state()
        executor.rows.apply(state.changes)
        executor.settle(state)
        return [executor, state]

    # ---- entries ----

    @property
    def rows(self):
        return self.proposer[0].rows

    @property
    def state(self):
        return self.proposer[1]

    def signer(self, organization, role="scientist"):
        return named_key(f"{organization} {role if role in KEY_NAMES else 'person'}")

    def entry(self, organization, *operations, role="scientist", key=None, not_after=None, net=""):
        """The bytes of a signed entry, each with a nonce of its own."""
        self.count += 1
        signer = key or self.signer(organization, role)
        nonce = self.number()
        network = net or self.genesis.net
        return write_entry(network, organization, signer, nonce, operations, not_after).encode()

    def number(self):
        """32 hex digits that were not used before."""
        return f"{self.count:032x}"

    def submit(self, organization, *operations, **how):
        """Record an entry as the only one of a block, or raise what it is refused for."""
        return self.record(self.entry(organization, *operations, **how))

    def record(self, *leaves):
        self.time_ms += 1
        executor, parent = self.proposer
        built = executor.build(parent, leaves, self.time_ms)
        for _, error in built.refused:
            raise error
        follower, before = self.voter
        state = follower.execute(before, built.leaves, self.time_ms)
        assert (state.root, state.digest) == (built.state.root, built.state.digest)
        for replica, after in ((self.proposer, built.state), (self.voter, state)):
            replica[0].rows.apply(after.changes)
            replica[0].settle(after)
            replica[1] = after
        self.leaves += built.leaves
        return built

    def row(self, key):
        return self.rows.get(key)

    def recomputed_digest(self):
        total = LtHash()
        for key, value in self.rows.items():
            total = total.add(key, value)
        return total.digest()

    # ---- assets ----

    def key(self, organization):
        self.count += 1
        return f"{organization}/{self.number()}"

    def add_identity(self, organization, label, roles, **fields):
        public = named_key(label).public.hex
        operation = {"op": "identity.add", "public": public, "roles": list(roles), **fields}
        self.submit(organization, operation, role="admin")
        return named_key(label)

    def environment(self, organization, spec=SPEC):
        key = self.key(organization)
        operation = {"op": "environment.add", "key": key, "name": "numpy", "spec": spec}
        self.submit(organization, {**operation, "digest": sha256_hex(dumps(spec))})
        return key

    def dataset_operation(self, organization, name="digits", **fields):
        return {
            "op": "dataset.add",
            "key": self.key(organization),
            "name": name,
            "opener": digest(f"opener of {organization}"),
            "environment": self.environment(organization),
            **fields,
        }

    def dataset(self, organization, name="digits", **fields):
        operation = self.dataset_operation(organization, name, **fields)
        self.submit(organization, operation)
        return operation["key"]

    def sample(self, organization, content=None):
        key = self.key(organization)
        tag = digest(f"{organization} {content or key}")
        return {"key": key, "commitment": digest(f"salted {key}"), "tag": tag}

    def samples(self, dataset, label, count=3):
        organization = dataset.partition("/")[0]
        new = [self.sample(organization) for _ in range(count)]
        operation = {"op": "sample.add", "datasets": [dataset], "label": label, "samples": new}
        self.submit(organization, operation)
        return [sample["key"] for sample in new]

    def set_operation(self, dataset, label, samples, **fields):
        return {
            "op": "sampleset.add",
            "key": self.key(dataset.partition("/")[0]),
            "dataset": dataset,
            "label": label,
            "part": 0,
            "parts": 1,
            "samples": samples,
            "digest": set_digest(samples),
            "count": len(samples),
            **fields,
        }

    def set(self, dataset, label, count=3, samples=None):
        members = samples or self.samples(dataset, label, count)
        operation = self.set_operation(dataset, label, members)
        self.submit(dataset.partition("/")[0], operation)
        return operation["key"]

    def algo(self, organization, capabilities=("init", "train", "predict"), **fields):
        key = self.key(organization)
        manifest = {"format": "python", "capabilities": list(capabilities)}
        operation = {
            "op": "algo.add",
            "key": key,
            "name": "softmax",
            "archive": digest(f"archive {key}"),
            "manifest": {**manifest, "parameters": PARAMETERS},
            "environment": self.environment(organization),
            **fields,
        }
        self.submit(organization, operation)
        return key

    def objective_operation(self, organization, sets=(), **fields):
        return {
            "op": "objective.add",
            "key": self.key(organization),
            "name": "digits accuracy",
            "metric": {"builtin": "accuracy"},
            "direction": "maximize",
            "combine": "by_count",
            "sets": [{"dataset": self.row(f"sampleset/{s}")["dataset"], "set": s} for s in sets],
            **fields,
        }

    def objective(self, organization, sets=(), accept=True, **fields):
        operation = self.objective_operation(organization, sets, **fields)
        self.submit(organization, operation)
        key = operation["key"]
        for entry in self.row(f"revision/{key}/000001")["sets"]:
            if accept and not entry["accepted"]:
                self.accept(key, entry["set"])
        return key

    def accept(self, objective, test_set, revision=1):
        operation = {
            "op": "objective.accept",
            "key": objective,
            "revision": revision,
            "set": test_set,
            "metric_digest": self.row(f"objective/{objective}")["metric_digest"],
        }
        self.submit(self.row(f"sampleset/{test_set}")["owner"], operation)

    def grant(self, dataset, right, grant, **fields):
        operation = {"op": "dataset.grant", "key": dataset, "right": right, "grant": grant}
        self.submit(dataset.partition("/")[0], {**operation, **fields})

    # ---- plans ----

    def task(self, owner, kind, worker, algo, inputs=(), data=None, **fields):
        """A task; `inputs` maps names to (task, output); `data` is (dataset, set)."""
        task = {"key": self.key(owner), "kind": kind, "worker": worker, "algo": algo}
        if inputs:
            edges = dict(inputs).items()
            task["inputs"] = [{"name": n, "task": t["key"], "output": o} for n, (t, o) in edges]
        if data:
            task["data"] = {"dataset": data[0], "set": data[1]}
        return {**task, **fields}

    def plan_operations(self, owner, tasks, **fields):
        key = self.key(owner)
        return [
            {"op": "plan.add", "key": key, "name": "plan", "parts": 1, **fields},
            {"op": "plan.tasks", "plan": key, "part": 0, "tasks": tasks},
        ]

    def plan(self, owner, tasks, **fields):
        operations = self.plan_operations(owner, tasks, **fields)
        self.submit(owner, *operations)
        return operations[0]["key"]

    # ---- work ----

    def shown(self, task):
        """A task's effective state."""
        row = self.row(f"task/{task if isinstance(task, str) else task['key']}")
        return effective_state(row, self.row(f"plan/{row['plan']}"), self.time_ms)

    def doing(self, task):
        row = self.row(f"task/{task['key']}")
        operation = {"op": "task.doing", "task": task["key"], "attempt": row["attempt"] + 1}
        return self.submit(row["worker"], operation, role="node")

    def done_operation(self, task, **fields):
        """A `task.done` that is right; `fields` replace its own."""
        row = self.row(f"task/{task['key']}")
        inputs = {}
        for edge in row["inputs"]:
            if edge["name"] not in row["skipped"]:
                name = edge.get("model") or f"{edge['task']}/{edge['output']}"
                inputs[edge["name"]] = self.row(f"model/{name}")["digest"]
        names = {"test": (), "predict": (), "composite": ("head", "trunk")}
        made = names.get(row["kind"], ("model",))
        receipt = {"grade": "B", "labels": "none", "runtime": "sandbox", "inputs": inputs}
        operation = {
            "op": "task.done",
            "task": task["key"],
            "attempt": row["attempt"],
            "outputs": {n: self.file(f"{task['key']} {n} {row['attempt']}") for n in made},
            "receipt": receipt,
        }
        if row["kind"] == "test":
            receipt |= self.receipt_of_a_test(row)
            operation["score"] = {"value": "0.9", "count": 10}
        return operation | fields

    def receipt_of_a_test(self, row):
        """What a test's receipt must state beside grade, runtime and inputs, found in the rows."""
        dataset = self.row(f"dataset/{row['data']['dataset']}")
        objective = self.row(f"objective/{row['objective']}")
        algo = self.row(f"algo/{row['algo']}")
        scorer = objective["metric"].get("environment", dataset["environment"])
        steps = {"predict": algo["environment"], "score": scorer}
        if not dataset.get("targets"):
            steps["features"] = dataset["environment"]
        return {
            "labels": "sealed",
            "set": self.row(f"sampleset/{row['data']['set']}")["digest"],
            "codes": {
                "code": algo["archive"],
                "opener": dataset["opener"],
                "metric": objective["metric_digest"],
            },
            "environments": {n: self.row(f"environment/{k}")["digest"] for n, k in steps.items()},
            "mode": "warm",
            "data_check": "content",
            "started_ms": self.time_ms,
            "ended_ms": self.time_ms + 5,
        }

    def file(self, label):
        return {"digest": digest(label), "size": 100, "format": "hdf5"}

    def done(self, task, **fields):
        worker = self.row(f"task/{task['key']}")["worker"]
        return self.submit(worker, self.done_operation(task, **fields), role="node")

    def failed(self, task, reason="exit"):
        row = self.row(f"task/{task['key']}")
        attempt = row["attempt"] + (0 if self.shown(task) == "doing" else 1)
        operation = {"op": "task.failed", "task": task["key"], "attempt": attempt}
        self.submit(row["worker"], {**operation, "reason": reason}, role="node")

    def run(self, *tasks, **fields):
        """Begin and finish tasks in the given order."""
        for task in tasks:
            self.doing(task)
            self.done(task, **fields)

    def work(self, organization):
        """What an organization's node sees as its open work: task -> effective state."""
        prefix = f"work/{organization}/"
        keys = [name.removeprefix(prefix) for name, _ in self.rows.scan(prefix)]
        return {key: self.shown(key) for key in keys}

    def run_all(self):
        """Let every node do what is to do, until nothing is; the tasks in the order they ran."""
        ran = []
        while due := [
            key
            for name in self.organizations
            for key, state in self.work(name).items()
            if state == "todo"
        ]:
            for key in due:
                self.run({"key": key})
                ran.append(key)
        return ran


MEAN = {"builtin": "mean"}
MEAN_DIGEST = builtin_digest("mean")


class Digits:
    """Ordinary federated learning over a world: a dataset per site, an algo, an objective."""

    def __init__(self, world, sites, scientist, test_sites=None, **dataset_fields):
        self.world, self.scientist, self.sites = world, scientist, sites
        self.datasets, self.train_sets, self.test_sets = {}, {}, {}
        for site in sites:
            self.datasets[site] = world.dataset(site, **dataset_fields)
            self.train_sets[site] = world.set(self.datasets[site], "train")
        for site in sites if test_sites is None else test_sites:
            if site not in self.datasets:
                self.datasets[site] = world.dataset(site)
            self.test_sets[site] = world.set(self.datasets[site], "test")
        self.algo = world.algo(scientist)
        self.objective = world.objective(sites[0], list(self.test_sets.values()), minimum_grade="B")

    def grant_all(self):
        """What data owners do once: let the scientist train and everybody test."""
        for site, dataset in self.datasets.items():
            if site in self.train_sets and site != self.scientist:
                self.world.grant(dataset, "train", [self.scientist])
            self.world.grant(dataset, "test", "public")

    def init(self, at):
        return self.world.task(self.scientist, "init", at, self.algo)

    def train(self, site, model=None, output="model", **fields):
        data = (self.datasets[site], self.train_sets[site])
        inputs = {"model": (model, output)} if model else {}
        return self.world.task(self.scientist, "train", site, self.algo, inputs, data, **fields)

    def mix(self, trained, at, **fields):
        inputs = {f"in-{index}": (task, "model") for index, task in enumerate(trained)}
        return self.world.task(self.scientist, "aggregate", at, MEAN, inputs, **fields)

    def test(self, site, model, label="test", **fields):
        sets = self.test_sets if label == "test" else self.train_sets
        return self.world.task(
            self.scientist,
            "test",
            site,
            self.algo,
            {"model": (model, "model")},
            (self.datasets[site], sets[site]),
            **{"objective": self.objective, **fields},
        )

    def fedavg(self, at, rounds=2, **fields):
        """The tasks of federated averaging: (all tasks, the last mix, its tests)."""
        model = self.init(at)
        tasks = [model]
        for _ in range(rounds):
            trained = [self.train(site, model) for site in self.sites]
            model = self.mix(trained, at, **fields)
            tasks += [*trained, model]
        tests = [self.test(site, model) for site in self.test_sets]
        return [*tasks, *tests], model, tests
