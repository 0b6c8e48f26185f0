"""A consortium with data, ready for tasks: real nodes, a person at each, one dataset at each.

    with Field(tmp_path) as field:
        run = field.submit(field.averaging(rounds=1))
        field.wait(run)

Every site has 40 train rows and 20 test rows of two classes, in samples of one row and of many;
hospital-a may train everywhere, everybody may test, mixtures go to participants.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import hospital_code
import numpy as np
from network import Network as Nodes

from tilth import profiles
from tilth.algorithm import archive
from tilth.assets import Algo, Dataset, Objective
from tilth.client import Network
from tilth.plan import MEAN, Plan
from tilth.run import Run
from tilth_ledger.leaf import ENTRY, Leaf

CODE = Path(hospital_code.__file__)
OPENER = """format = "tilth-1"
name = "Rows"

[python]
class = "hospital_code:Rows"
"""


class Field:
    """Three sites on loopback, up and registered."""

    def __init__(
        self, folder: Path, *, members: int = 3, followers: int = 0, settings: str = ""
    ) -> None:
        self.folder = folder
        self._stack = ExitStack()
        os.environ["TILTH_HOME"] = str(folder / "home")
        self.nodes = self._stack.enter_context(
            Nodes(
                folder,
                members,
                followers=followers,
                data_roots=[folder / "data"],
                settings=settings,
            )
        )
        self.nodes.start()
        self.nets: list[Network] = []
        for i in range(members + followers):
            self.nets.append(self._arrive(i))
        opener = self._code("opener", OPENER)
        for i, net in enumerate(self.nets):
            self._write_data(i)
            place = folder / "data" / net.organization
            made = net.datasets.add(
                "rows", opener=opener, train=place / "train", test=place / "test"
            )
            net.datasets.grant(made, train=["hospital-a"], test="public", mixed="participants")
        self.net = self.nets[0]

    def __enter__(self) -> "Field":
        return self

    def __exit__(self, *_: object) -> None:
        for net in self.nets:
            net.close()
        self._stack.close()

    # -- assets

    @property
    def sites(self) -> tuple[Dataset, ...]:
        return self.net.datasets.list(name="rows")

    def algo(self, code: type[Any]) -> Algo:
        return self.net.algos.add(code)

    def objective(self, metric: str = "accuracy", combine: str = "pooled") -> Objective:
        """An objective on all test sets, accepted by everybody."""
        goal = self.net.objectives.add(
            f"{metric}", metric=metric, datasets=self.sites, combine=combine
        )
        return self._accepted(goal.key)

    def objective_with(self, metric: str) -> Objective:
        """An objective whose metric is a function of hospital_code."""
        text = OPENER.replace("hospital_code:Rows", f"hospital_code:{metric}")
        packed = archive.of(self._code(metric, text))
        self.net.transport.put_blob(packed.digest, packed.data)
        environment = self.net.environments.default()
        operation = {
            "op": "objective.add",
            "key": self.net.new_key(),
            "name": metric,
            "metric": {"archive": packed.digest, "environment": environment.key},
            "primary": "all",
            "direction": "maximize",
            "combine": "by_count",
            "sets": [{"dataset": s.key, "set": s.set_of("test").key} for s in self.sites],
            "minimum_grade": "B",
        }
        self.net.record(operation)
        return self._accepted(str(operation["key"]))

    def _accepted(self, key: str) -> Objective:
        for net in self.nets:
            net.objectives.accept(net.objectives.find(key))
        return self.net.objectives.find(key)

    # -- plans

    def averaging(
        self,
        *,
        rounds: int = 1,
        goal: Objective | None = None,
        code: type[Any] = hospital_code.Mean,
        **options: Any,
    ) -> Plan:
        """init, then rounds of trainings everywhere and a mean at hospital-b, then tests."""
        algo = self.algo(code)
        plan = Plan("averaging")
        model = plan.init(algo, at="hospital-a")
        for _ in range(rounds):
            trained = [plan.train(algo, site, model, parameters=options) for site in self.sites]
            model = plan.aggregate(MEAN, trained, at="hospital-b")
        plan.final(model)
        if goal is not None:
            for test_set in goal.sets:
                plan.test(algo, model, goal, test_set)
        return plan

    def one_training(self, code: type[Any], site: int = 0, **options: Any) -> Plan:
        algo = self.algo(code)
        plan = Plan(code.__name__)
        plan.train(algo, self.sites[site], plan.init(algo, at="hospital-a"), parameters=options)
        return plan

    def one_plan_with_a_test(self) -> Plan:
        """init, a training and a test on train rows at hospital-a: all that one node does."""
        plan = self.one_training(hospital_code.Mean)
        known = self.net.objectives.list(name="accuracy")
        goal = known[0] if known else self.objective()
        plan.test(plan.tasks[0].algo, plan.tasks[1], goal, goal.sets[0])  # type: ignore[arg-type]
        return plan

    def submit(self, plan: Plan, change: Callable[[dict[str, Any]], None] | None = None) -> Run:
        """Register a plan; `change` may edit each task's operation before it is signed."""
        entries = plan.entries("hospital-a")
        for operation in (each for entry in entries for each in entry):
            for task in operation.get("tasks", ()):
                if change is not None:
                    change(task)
        for entry in entries:
            self.net.record(*entry)
        return self.net.plans.one(f"hospital-a/{plan.id}")

    def wait(self, run: Run) -> Run:
        """Until nothing of the plan is open."""
        return run.watch(quiet=True)

    def until(self, key: str, wanted: Callable[[Mapping[str, Any]], bool], at: int = 0) -> None:
        """Wait until a row is as wanted, at one node."""
        for changes in self.nets[at].transport.watch([key]):
            self.net.rows.at_least(changes.size if changes.live else 0)
            for name, row in changes.rows:
                if name == key and row is not None and wanted(row):
                    return

    def rows(self, prefix: str, at: int = 0) -> dict[str, dict[str, Any]]:
        return dict(self.nets[at].rows.scan(prefix))

    def task(self, run: Run, kind: str, worker: str | None = None) -> str:
        """The key of the first task of a kind (at a worker)."""
        for task in run.tasks():
            if task.kind == kind and worker in (None, task.worker):
                return task.key
        raise AssertionError(f"no {kind} task")

    def restart(self, i: int) -> None:
        """Start a killed node again, and connect its person again."""
        self.nodes.start(i)
        self.connect(i)

    def connect(self, i: int) -> None:
        """A new connection of the person at a site, to where its node listens now."""
        self.nets[i].close()
        self.nets[i] = self._connected(self._profile(i, self.nets[i].profile.key))
        self.net = self.nets[0]

    # -- how it is made

    def _arrive(self, i: int) -> Network:
        """A person with all roles at a site."""
        roles = ["owner", "organizer", "scientist"]
        file = self.folder / f"person-{i}.key"
        profiles.write_key(file)
        profile = self._profile(i, file)
        made = {"op": "identity.add", "public": profile.signing_key().public.hex, "roles": roles}
        self.nodes.submit(i, [made])
        return self._connected(profile)

    def _connected(self, profile: profiles.Profile) -> Network:
        """A connection that reads what any person of the field has written or watched."""
        return Network(profile, beside=self.nets[0] if self.nets else None)

    def results(self) -> Counter[str]:
        """How often the ledger says `done` about each task."""
        client, found, start = self.net.transport, Counter[str](), 0
        while leaves := client.leaves(start, 500):
            start += len(leaves)
            entries = [leaf for leaf in map(Leaf.decode, leaves) if leaf.type == ENTRY]
            operations = [
                each for leaf in entries for each in json.loads(leaf.payload)["operations"]
            ]
            found.update(each["task"] for each in operations if each["op"] == "task.done")
        return found

    def _profile(self, i: int, key: Path) -> profiles.Profile:
        site = self.nodes.sites[i]
        return profiles.add(
            site.organization,
            address=site.ready["client_address"],
            organization=site.organization,
            genesis=self.nodes.genesis_file,
            key=key,
        )

    def _code(self, name: str, manifest: str) -> Path:
        """The folder of an archive with hospital_code in it."""
        folder = self.folder / name
        folder.mkdir()
        (folder / "tilth.toml").write_text(manifest)
        (folder / "hospital_code.py").write_bytes(CODE.read_bytes())
        return folder

    def _write_data(self, i: int) -> None:
        place = self.folder / "data" / self.nodes.sites[i].organization
        self.write_samples(place, "train", seed=2 * i)
        self.write_samples(place, "test", seed=2 * i + 1, sizes=(1, 1, 18))

    def write_samples(
        self, place: Path, label: str, *, seed: int, sizes: tuple[int, ...] = (1, 1, 38)
    ) -> None:
        """Samples of so many rows each, of two classes around (0, 0) and (1, 1)."""
        random = np.random.default_rng(seed)
        for number, size in enumerate(sizes):
            y = np.arange(size) % 2 if size > 1 else np.array([number % 2])
            x = random.normal(0, 0.3, (size, 2)) + y[:, None]
            sample = place / label / f"sample-{number}"
            sample.mkdir(parents=True)
            np.save(sample / "x.npy", x)
            np.save(sample / "y.npy", y)
