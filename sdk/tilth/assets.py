"""What the ledger knows, as values: frozen, read from rows, never written back.

A key is `<organization>/<32 hexadecimal digits>`; the organization in it is the asset's owner. The
client (client.py) fetches rows and hands them to `from_row`; nothing here talks to a node.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tilth.errors import InvalidInput
from tilth_ledger.operations import metric_digest
from tilth_ledger.transitions import FINAL, OPEN, effective_state

Row = Mapping[str, Any]


def owner_of(key: str) -> str:
    """The organization in a key."""
    return key.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Environment:
    """What code needs to run, named by the digest of what it is built from."""

    key: str
    name: str
    digest: str
    requirements: tuple[str, ...] = ()
    base: str = ""  # an image; empty: what each node's operator offers
    lock: str = ""  # SHA-256 of a requirements file with hashes
    dockerfile: str = ""  # SHA-256 of the archive of a Dockerfile and what lies beside it

    @classmethod
    def from_row(cls, key: str, row: Row) -> "Environment":
        spec = row.get("spec", {})
        files = {name: spec.get(name, "") for name in ("base", "lock", "dockerfile")}
        return cls(key, row["name"], row["digest"], tuple(spec.get("requirements", ())), **files)


@dataclass(frozen=True, slots=True)
class Algo:
    """Untrained code."""

    key: str
    name: str
    archive: str  # SHA-256 of the archive
    environment: str = ""
    capabilities: tuple[str, ...] = ()
    parameters: tuple[Mapping[str, Any], ...] = ()

    @property
    def owner(self) -> str:
        return owner_of(self.key)

    @classmethod
    def from_row(cls, key: str, row: Row) -> "Algo":
        manifest = row.get("manifest", {})
        return cls(
            key=key,
            name=row["name"],
            archive=row["archive"],
            environment=row.get("environment", ""),
            capabilities=tuple(manifest.get("capabilities", ())),
            parameters=tuple(manifest.get("parameters", ())),
        )


@dataclass(frozen=True, slots=True)
class SampleSet:
    """A sealed set of samples of one dataset and one label."""

    key: str
    dataset: str
    label: str
    count: int

    @classmethod
    def from_row(cls, key: str, row: Row) -> "SampleSet":
        return cls(key, row["dataset"], row["label"], row["count"])


@dataclass(frozen=True, slots=True)
class Dataset:
    """Samples of one organization, the code that reads them, and who may use them."""

    key: str
    name: str
    description: str = ""
    grants: Mapping[str, Any] = field(default_factory=dict)
    sets: tuple[SampleSet, ...] = ()

    @property
    def owner(self) -> str:
        return owner_of(self.key)

    def set_of(self, label: str) -> SampleSet:
        """The current set of a label: every `tilth data add` seals one of all samples so far, so
        it is the largest."""
        found = [each for each in self.sets if each.label == label]
        if not found:
            raise InvalidInput(
                f"dataset {self.name!r} of {self.owner} has no {label} set",
                found=", ".join(f"{each.label} ({each.count})" for each in self.sets) or "no sets",
                expected=f"a sealed set of {label} samples",
                remedy=f"{self.owner} adds one with: tilth data add {self.name} --{label} DIR",
            )
        return max(found, key=lambda each: (each.count, each.key))

    def using(self, sample_set: "SampleSet | str") -> "Dataset":
        """This dataset, with that set (or its key) as the current one of its label: for plans and
        objectives on fewer samples than there are by now."""
        key = sample_set if isinstance(sample_set, str) else sample_set.key
        chosen = next((each for each in self.sets if each.key == key), None)
        if chosen is None:
            raise InvalidInput(
                f"this is no sealed set of dataset {self.name!r} of {self.owner}",
                found=key,
                expected=", ".join(each.key for each in self.sets) or "none: it has no sets",
                remedy=f"Look at them with: tilth data sets {self.name}",
            )
        others = (each for each in self.sets if each.label != chosen.label)
        return replace(self, sets=(*others, chosen))

    @classmethod
    def from_row(cls, key: str, row: Row, sets: Sequence[SampleSet] = ()) -> "Dataset":
        return cls(
            key=key,
            name=row["name"],
            description=row.get("description", ""),
            grants=row.get("grants", {}),
            sets=tuple(sets),
        )


@dataclass(frozen=True, slots=True)
class TestSet:
    """One test set of an objective's revision; pending until its owner accepts it (rule T1)."""

    dataset: str
    set: str
    accepted: bool

    @property
    def owner(self) -> str:
        return owner_of(self.dataset)


@dataclass(frozen=True, slots=True)
class Objective:
    """A metric with a direction, and the test sets it is measured on."""

    key: str
    name: str
    metric: Mapping[str, Any]
    direction: str
    combine: str
    revision: int
    sets: tuple[TestSet, ...] = ()
    description: str = ""
    minimum_grade: str = "D"

    @property
    def owner(self) -> str:
        return owner_of(self.key)

    @property
    def metric_digest(self) -> str:
        """What an acceptance is bound to (rule T1): the metric's archive, or the well-known digest
        of a built-in one."""
        return metric_digest(self.metric)

    @property
    def metric_name(self) -> str:
        """The metric in a word or two."""
        return str(self.metric.get("builtin") or f"own {self.metric_digest[:16]}")

    @classmethod
    def from_row(cls, key: str, row: Row, revision: Row | None = None) -> "Objective":
        sets = (revision or {}).get("sets", ())
        return cls(
            key=key,
            name=row["name"],
            metric=row["metric"],
            direction=row["direction"],
            combine=row["combine"],
            revision=row["revision"],
            sets=tuple(
                TestSet(each["dataset"], each["set"], bool(each.get("accepted"))) for each in sets
            ),
            description=row.get("description", ""),
            minimum_grade=row.get("minimum_grade", "D"),
        )


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """A task as the ledger has it now."""

    key: str
    plan: str
    kind: str
    worker: str
    rank: int
    state: str
    attempt: int = 0
    tag: str = ""
    reason: str = ""
    wait: str = ""  # what a waiting task waits for: inputs, or approval
    score: Mapping[str, Any] | None = None
    certified: bool = False
    receipt: Mapping[str, Any] = field(default_factory=dict)
    facts: Row = field(default_factory=dict, repr=False)

    @property
    def open(self) -> bool:
        return self.state in OPEN

    @property
    def value(self) -> str:
        """The score as the ledger has it, or nothing."""
        return str((self.score or {}).get("value", ""))

    @classmethod
    def from_row(cls, key: str, row: Row, state: str | None = None) -> "TaskStatus":
        return cls(
            key=key,
            plan=row["plan"],
            kind=row["kind"],
            worker=row["worker"],
            rank=row["rank"],
            state=state or row["state"],
            attempt=row.get("attempt", 0),
            tag=row.get("tag", ""),
            reason=row.get("reason", ""),
            wait=row.get("wait", "") if row["state"] == "waiting" else "",
            score=row.get("score"),
            certified="certified" in row,
            receipt=row.get("receipt", {}),
            facts=row,
        )


@dataclass(frozen=True, slots=True)
class PlanStatus:
    """A compute plan as the ledger has it now."""

    key: str
    name: str
    owner: str
    status: str  # waiting, todo, doing, done, failed, canceled; or unsealed: parts are missing
    count: int
    done: int = 0
    failed: int = 0
    canceled: int = 0
    final: tuple[str, ...] = ()
    tag: str = ""
    facts: Row = field(default_factory=dict, repr=False)

    @property
    def over(self) -> bool:
        """Whether nothing of it can still happen, but by a retry."""
        return self.status in FINAL

    @classmethod
    def from_row(
        cls,
        key: str,
        row: Row,
        progress: Row | None = None,
        work: Sequence[str] = (),
        time_ms: int | None = None,
    ) -> "PlanStatus":
        """`work`: the stored states of its open tasks; `time_ms`: ledger time, for its expiry."""
        count = row.get("tasks", 0)
        done, failed = ((progress or {}).get(name, 0) for name in ("done", "failed"))
        stops = row.get("stops", 0)
        states = {
            effective_state({"state": each, "stops": stops}, {"stops": stops, **row}, time_ms)
            for each in work
        }
        ended = states <= {*FINAL}
        return cls(
            key=key,
            name=row["name"],
            owner=row["owner"],
            status=_plan_status(row, time_ms, states, done == count, bool(failed)),
            count=count,
            done=done,
            failed=failed,
            canceled=count - done - failed - (0 if ended else len(work)),
            final=tuple(row.get("final", ())),
            tag=row.get("tag", ""),
            facts=row,
        )


def _plan_status(
    row: Row, time_ms: int | None, states: Collection[str], all_done: bool, any_failed: bool
) -> str:
    """One word for all tasks of a plan: the most lively state, then the worst end."""
    expired = time_ms is not None and time_ms > row["expires_ms"]
    if row["status"] == "unsealed":
        return "canceled" if expired else "unsealed"
    for state in ("doing", "todo", "waiting"):
        if state in states:
            return state
    if row["status"] == "open" and not expired:
        return "waiting"  # for more tasks, or for its closing
    if row["status"] == "canceled" or not (all_done or any_failed):
        return "canceled"
    return "failed" if any_failed else "done"
