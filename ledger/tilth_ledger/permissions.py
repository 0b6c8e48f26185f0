"""Who may do what now: the rights in ledger/README.md as pure functions of rows (P1 to P6).

Invariants:
- Every answer is computed from the rows as they are: a narrowed grant binds the next use, also in
  running plans (P4). Nothing is answered from a snapshot.
- A model's `use` and `download` are within its cap, and within what the owner of every dataset
  behind it grants: `updates` for unmixed data, `mixed` for mixtures (P2, P3).
- `download` never comes with `use` alone: an aggregator and a test hospital run a model without
  being allowed to take it out.

Left to others: refusing an entry (`rules_*`), serving bytes (the node, which asks
`may_read_blob` and `may_log`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tilth_ledger import grants
from tilth_ledger.canonical import dumps, sha256_hex
from tilth_ledger.errors import Refused
from tilth_ledger.grants import Grant
from tilth_ledger.lineage import Lineage, Source
from tilth_ledger.rows import Row, Rows, RowView, read_row
from tilth_ledger.shapes import BUILTIN_AGGREGATIONS

# Rule P3's default: the aggregations shipped with Tilth, accepted by every data owner.
REVIEWED_AGGREGATIONS = frozenset(
    sha256_hex(dumps({"builtin": name})) for name in BUILTIN_AGGREGATIONS
)


@dataclass(slots=True)
class Rights:
    """Answers about one state of the rows. Make a new one after rows changed."""

    rows: Rows
    _memo: dict[tuple[str, ...], Grant] = field(default_factory=dict)
    _read: dict[str, RowView] = field(default_factory=dict)

    def _get(self, key: str) -> RowView:
        """A row, read once and never changed; empty when there is none."""
        row = self._read.get(key)
        if row is None:
            value = self.rows.get_bytes(key)
            row = self._read[key] = {} if value is None else read_row(value)
        return row

    def dataset(self, key: str, right: str, plan: str) -> Grant:
        """Who holds a right on a dataset, in the context of a plan."""
        name = ("dataset", key, right, plan)
        if name not in self._memo:
            self._memo[name] = self._dataset(key, right, plan)
        return self._memo[name]

    def _dataset(self, key: str, right: str, plan: str) -> Grant:
        row = self._get(f"dataset/{key}")
        if not row:
            return frozenset()
        owner = frozenset((str(row["owner"]),))
        stated = row["grants"].get(right)
        if stated is not None and stated != "participants":
            return grants.join(grants.read(stated), owner)
        if right == "mixed":
            return grants.join(self.participants(plan), owner)
        if right == "updates":
            trains = self.dataset(key, "train", plan)
            return grants.join(trains, self._plan_field(plan, "aggregators"))
        if right in ("logs", "report"):
            return owner | {plan.partition("/")[0]}
        return owner

    def _plan_field(self, plan: str, name: str) -> frozenset[str]:
        return frozenset(self._get(f"plan/{plan}").get(name, ()))

    def data_parties(self, plan: str) -> frozenset[str]:
        """The organizations whose data take part in a plan, and its owner."""
        return self._plan_field(plan, "organizations") | {plan.partition("/")[0]}

    def participants(self, plan: str) -> Grant:
        """Those who may use a plan's mixtures by default: whose data took part, the plan's owner,
        its aggregators, and the owners of test sets of its objectives."""
        name = ("participants", plan)
        if name not in self._memo:
            row = self._get(f"plan/{plan}")
            testers = (t for o in row.get("objectives", ()) for t in self._testers(o))
            found = self.data_parties(plan) | frozenset(row.get("aggregators", ()))
            self._memo[name] = found.union(testers)
        return self._memo[name]

    def _testers(self, objective: str) -> list[str]:
        row = self._get(f"objective/{objective}")
        revision = self._get(f"revision/{objective}/{row.get('revision', 0):06d}")
        return [s["dataset"].partition("/")[0] for s in revision.get("sets", ()) if s["accepted"]]

    def algo(self, algo: str | Mapping[str, Any], right: str = "use") -> Grant:
        """Who may use an algo, or read its code; the built-in ones everybody."""
        if not isinstance(algo, str):
            return grants.PUBLIC
        row = self._get(f"algo/{algo}")
        if not row:
            return frozenset()
        stated = row.get("grants", {})
        use = grants.read(stated.get("use", "public"))
        # Who may run it must be able to review it.
        return grants.read(stated["read"]) if right == "read" and "read" in stated else use

    def image(self, key: str) -> Grant:
        """Who may have an image's file; when it is withdrawn its owner alone."""
        row = self._get(f"image/{key}")
        stated = row.get("grants", {}).get("use", "public")
        active = row.get("status") == "active"
        return grants.read(stated) if active else frozenset((key.partition("/")[0],))

    def objective(self, key: str) -> Grant:
        row = self._get(f"objective/{key}")
        return grants.read(row.get("grants", {}).get("use", "public"))

    def use(self, lineage: Lineage) -> Grant:
        """Who may run a model with this lineage on its node (before consents)."""
        parts = [self.dataset(d, "updates", p) for d, p in sorted(lineage.raw)]
        parts += [self.dataset(d, "mixed", p) for d, p in sorted(lineage.mixed)]
        return grants.meet(lineage.use, grants.meet_all(parts))

    def download(self, lineage: Lineage) -> Grant:
        """Who may take it out: of those who may use it, not whoever merely aggregates or tests."""
        parts = [self._holders(source) for source in sorted(lineage.raw)]
        parts += [self._takers(source) for source in sorted(lineage.mixed)]
        may = grants.meet(lineage.download, grants.meet_all(parts))
        return grants.meet(may, self.use(lineage))

    def _holders(self, source: Source) -> Grant:
        dataset, plan = source
        row = self._get(f"dataset/{dataset}")
        stated = "updates" if "updates" in row.get("grants", {}) else "train"
        return self.dataset(dataset, stated, plan)

    def _takers(self, source: Source) -> Grant:
        dataset, plan = source
        row = self._get(f"dataset/{dataset}")
        if row.get("grants", {}).get("mixed", "participants") == "participants":
            return self.data_parties(plan)
        return self.dataset(dataset, "mixed", plan)

    def model(self, row: RowView, right: str = "use") -> Grant:
        """Who may `use` or `download` a registered model now, consents of data owners included."""
        lineage = Lineage.read(row)
        computed = self.use(lineage) if right == "use" else self.download(lineage)
        return grants.join(computed, self._consented(row, right, lineage))

    def _consented(self, row: RowView, right: str, lineage: Lineage) -> Grant:
        """Rule P2: those to whom every data owner behind the model consented, within the cap."""
        stated: Mapping[str, list[str]] = row.get("consents", {}).get(right, {})
        owners = {dataset.partition("/")[0] for dataset, _ in lineage.sources}
        cap = lineage.use if right == "use" else lineage.download
        return frozenset(
            organization
            for organization, consenting in stated.items()
            if owners <= {*consenting} and grants.allows(cap, organization)
        )

    def may_mix(self, lineage: Lineage, algo_digest: str) -> bool:
        """Rule P3: whether an aggregate of this lineage counts as a mixture. Only data that come
        unmixed and are of enough distinct owners, so that no party's part can be subtracted."""
        if not lineage.raw:
            return True
        parties = {dataset.partition("/")[0] for dataset, _ in lineage.raw}
        for dataset, _ in sorted(lineage.raw):
            row = self._get(f"dataset/{dataset}")
            if len(parties) < row.get("min_parties", 2) or not self._accepts(dataset, algo_digest):
                return False
        return True

    def _accepts(self, dataset: str, algo_digest: str) -> bool:
        if algo_digest in REVIEWED_AGGREGATIONS:
            return True
        return self.rows.get(f"accepts/{dataset}/{algo_digest}") is not None

    def blockers(self, lineage: Lineage, organization: str) -> list[tuple[str, str]]:
        """The (dataset, right) pairs that keep an organization from using a model."""
        rights = [(source, "updates") for source in sorted(lineage.raw)]
        rights += [(source, "mixed") for source in sorted(lineage.mixed)]
        return [
            (dataset, right)
            for (dataset, plan), right in rights
            if not grants.allows(self.dataset(dataset, right, plan), organization)
        ]

    def grant_command(self, dataset: str, right: str, organization: str) -> str:
        """The command by which the dataset's owner gives a right."""
        name = self._get(f"dataset/{dataset}").get("name", dataset)
        shown = name if str(name).replace("-", "").replace("_", "").isalnum() else f'"{name}"'
        return f"tilth data grant {shown} --{right} {organization}"


def may_read_blob(
    rows: Rows, digest: str, organization: str, right: str = "use", holder: str | None = None
) -> None:
    """Rule P6: raise `Refused` unless `organization` may have the blob now.

    `right` matters for models: a node that runs a task needs `use`, a person who takes the model
    out needs `download`. A node that serves names itself as `holder`: digests are public, so
    anybody can register an asset that names another's blob and grant it to all. What the holder
    has through its own assets or work is therefore judged by those alone; what it merely keeps a
    copy of, by every asset that names it. Without a holder, one asset that allows it is enough.
    """
    rights = Rights(rows)
    own: list[bool] = []
    others: list[bool] = []
    for name, row in rows.scan(f"blob/{digest}/"):
        what, _, asset = name.removeprefix(f"blob/{digest}/").partition("/")
        may = grants.allows(_readers(rights, what, asset, row, right), organization)
        (own if _origin(rights, what, asset, row) == holder else others).append(may)
    if holder is None:
        allowed = any(own + others)
    else:
        allowed = any(own) if own else bool(others) and all(others)
    if allowed:
        return
    raise Refused(
        "P6",
        "this blob is not served to you",
        found=f"{organization} asks for {digest}",
        expected=f"the right to {right} an asset that names it" if own or others else "known blob",
        remedy="Ask the owner of the asset for the right, or correct the digest.",
    )


def _origin(rights: Rights, what: str, asset: str, row: Row) -> str:
    """The organization whose node has a blob first: the asset's owner, or the task's worker."""
    of_task = what in ("log", "report", "details", "predictions") or (what == "model" and row)
    task = rights.rows.get(f"task/{asset}") if of_task else None
    return str(task["worker"]) if task else asset.partition("/")[0]


def may_log(rows: Rows, task: str, organization: str) -> bool:
    """Whether an organization may read a task's log now (rights `logs`, P6)."""
    return grants.allows(_task_readers(Rights(rows), task, "logs"), organization)


def _readers(rights: Rights, what: str, asset: str, row: Row, right: str) -> Grant:
    """Who may have the blob that an asset names as its `what`."""
    match what:
        case "archive":
            return grants.join(rights.algo(asset, "read"), frozenset((asset.partition("/")[0],)))
        case "metric":
            return rights.objective(asset)
        case "image":
            return rights.image(asset)
        case "opener":
            users = (rights.dataset(asset, name, "") for name in ("train", "test"))
            return grants.join(next(users), next(users))
        case "model":
            model = rights.rows.get(f"model/{asset}/{row['output']}" if row else f"model/{asset}")
            if model is None:
                return frozenset()
            maker = frozenset((str(model.get("worker", model["owner"])),))
            return grants.join(rights.model(model, right), maker)
        case "log" | "details":
            return _task_readers(rights, asset, "logs" if what == "log" else what)
        case "report":
            return grants.join(_task_readers(rights, asset, "report"), _children(rights, asset))
        case "predictions":
            return _prediction_readers(rights, asset)
        case _:
            return grants.PUBLIC


def _task_readers(rights: Rights, key: str, right: str) -> Grant:
    """Who may read what a task wrote besides its outputs: the data's owner decides; without data
    it is the worker and the plan's owner."""
    task = rights.rows.get(f"task/{key}")
    if task is None:
        return frozenset()
    if "data" in task:
        return rights.dataset(task["data"]["dataset"], right, task["plan"])
    return frozenset((str(task["worker"]), str(task["owner"])))


def _children(rights: Rights, key: str) -> Grant:
    """The workers that get a task's model as input: its report comes beside it, because a mean
    needs the counts."""
    prefix = f"child/{key}/"
    children = (
        rights.rows.get(f"task/{name.removeprefix(prefix)}") for name, _ in rights.rows.scan(prefix)
    )
    return frozenset(str(child["worker"]) for child in children if child is not None)


def _prediction_readers(rights: Rights, key: str) -> Grant:
    """The data's owner; the requester while it holds `test`, if the dataset exports them."""
    task = rights.rows.get(f"task/{key}")
    if task is None:
        return frozenset()
    dataset = task["data"]["dataset"]
    row = rights.rows.get(f"dataset/{dataset}") or {}
    owner = frozenset((str(row.get("owner", "")),))
    requester = str(task["owner"])
    holds = grants.allows(rights.dataset(dataset, "test", task["plan"]), requester)
    return owner | {requester} if row.get("export") and holds else owner
