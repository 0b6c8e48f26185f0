"""Objectives: a metric with a direction, and the test sets it is measured on.

Invariants:
- The metric never changes; test sets change by a new revision with a board of its own (rule T1).
- An owner's acceptance names the digest of the metric that its labels are scored with.

Left to others: how a metric of one's own runs (tilth.algorithm.scoring, at the data's node).
"""

import ast
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tilth.assets import Dataset, Environment, Objective, TestSet
from tilth.blobs import write_code
from tilth.errors import InvalidInput
from tilth.registry import Assets

Metric = str | Path | type[Any] | Callable[..., Any]


class Objectives(Assets[Objective]):
    """A metric with a direction, and the test sets it is measured on."""

    noun = "objective"
    command = "tilth objective"

    def add(
        self,
        name: str,
        *,
        metric: Metric,
        datasets: Sequence[Dataset] = (),
        combine: str = "by_count",
        direction: str = "maximize",
        minimum_grade: str = "B",
        description: str = "",
        environment: Environment | None = None,
    ) -> Objective:
        """Defines an objective on the current test sets of datasets (for older ones, pass
        `dataset.using(set)`); each owner must accept. Without datasets it certifies nothing.

        metric       name of a built-in metric; or your own: a function score(y_true, y_pred), a
                     class with statistics(y_true, y_pred) and reduce(statistics), or a folder with
                     tilth.toml or metric.py that holds one of the two
        combine      how scores of several test sets become one: by_count, by_site, or pooled (only
                     with a built-in metric that has integer statistics)
        environment  what a metric of your own needs to run; default: Python with numpy and h5py
        """
        key = self._net.new_key()
        operation: dict[str, Any] = {
            "op": "objective.add",
            "key": key,
            "name": name,
            "metric": self._metric(metric, environment),
            "primary": "all",
            "direction": direction,
            "combine": combine,
            "sets": _test_sets(datasets),
            "minimum_grade": minimum_grade,
        }
        self._net.record(operation | ({"description": description} if description else {}))
        return self.find(key)

    def revise(self, objective: Objective, datasets: Sequence[Dataset] | None = None) -> Objective:
        """Makes a new revision, with a board of its own, on the current test sets of datasets; by
        default of those that it has now, without withdrawn ones. Each owner must accept again. For
        its owner."""
        if datasets is None:
            usable = {each.key: each for each in self._net.datasets.list()}
            datasets = [usable[each.dataset] for each in objective.sets if each.dataset in usable]
        sets = _test_sets(datasets)
        if not sets:
            raise InvalidInput(
                "a revision needs a test set",
                found="none of its datasets is left",
                expected="at least one dataset with test samples",
                remedy="Name one, or end the objective with: tilth objective withdraw OBJECTIVE",
            )
        if [each["set"] for each in sets] == [each.set for each in objective.sets]:
            raise InvalidInput(
                "the revision would be the same as the one before",
                found=f"revision {objective.revision} with these test sets",
                expected="other test sets",
                remedy="Add test samples first (tilth data add), or name other sets.",
            )
        self._net.record({"op": "objective.revise", "key": objective.key, "sets": sets})
        return self.find(objective.key)

    def accept(self, objective: Objective) -> tuple[TestSet, ...]:
        """Accepts this organization's pending test sets, bound to the metric as it is now."""
        pending = tuple(
            each
            for each in objective.sets
            if each.owner == self._net.organization and not each.accepted
        )
        operations = [
            {
                "op": "objective.accept",
                "key": objective.key,
                "revision": objective.revision,
                "set": each.set,
                "metric_digest": objective.metric_digest,
            }
            for each in pending
        ]
        if operations:
            self._net.record(*operations)
        return pending

    def withdraw(self, objective: Objective) -> None:
        """No new tests; its boards stay, and are marked (rule A4). For its owner."""
        self._net.record({"op": "objective.withdraw", "key": objective.key})

    def code(self, objective: Objective, folder: str | Path) -> Path:
        """Writes the code of its metric into a new folder, to be read before it is accepted."""
        if "archive" not in objective.metric:
            raise InvalidInput(
                "this objective's metric ships with Tilth",
                found=str(objective.metric["builtin"]),
                expected="a metric of its own",
                remedy="Read it in the package tilth_metrics.",
            )
        return write_code(self._net, objective.metric["archive"], folder)

    def _metric(self, metric: Metric, environment: Environment | None) -> dict[str, str]:
        """The metric as an objective states it; one's own is handed to the node first."""
        from tilth.algorithm import archive
        from tilth_metrics import names

        if isinstance(metric, str) and metric in names():
            return {"builtin": metric}
        if isinstance(metric, str) and not Path(metric).is_dir():
            raise InvalidInput(
                "there is no such metric",
                found=repr(metric),
                expected=f"{', '.join(names())}; or a folder with a metric of your own",
                remedy="Choose one of these, or give the path of your metric's folder.",
            )
        _check_own(metric)
        packed = archive.of(metric)
        self._net.transport.put_blob(packed.digest, packed.data)
        environment = environment or self._net.environments.default()
        return {"archive": packed.digest, "environment": environment.key}

    def _all(self) -> Iterable[Objective]:
        for key, row in self._rows("objective/"):
            revision = self._net.rows.get(f"revision/{key}/{row['revision']:06d}")
            yield Objective.from_row(key, row, revision)


def _check_own(metric: Metric) -> None:
    """What would only fail at the hospitals, after everybody has accepted it."""
    if isinstance(metric, (str, Path)):
        found, holds = str(metric), _folder_scores(Path(metric))
    else:
        names = dir(metric) if inspect.isclass(metric) else ["score"]
        found, holds = getattr(metric, "__name__", repr(metric)), _scores(names)
    if not holds:
        raise InvalidInput(
            "this is not a metric",
            found=found,
            expected="a function score(y_true, y_pred), a class with statistics and reduce, or a "
            "folder whose metric.py holds one of the two, under these names or as its tilth.toml "
            "says",
            remedy="Define one of these, as sdk/README.md shows.",
        )


def _folder_scores(folder: Path) -> bool:
    """Whether a folder names its metric or holds one of the usual names; its code is read, not
    run."""
    from tilth.algorithm import archive, manifest

    stated = manifest.read(folder)
    module, name = stated.entry
    file = folder / (module.replace(".", "/") + ".py")
    if "score" in stated.commands or not module or not file.is_file():
        return "score" in stated.commands
    tree = ast.parse(file.read_text(encoding="utf-8"))
    defined = {name for node in tree.body for name in archive.binds(node)}
    return name in defined if name else _scores(defined)


def _scores(names: Iterable[str]) -> bool:
    held = {*names}
    return "score" in held or {"statistics", "reduce"} <= held


def _test_sets(datasets: Iterable[Dataset]) -> list[Mapping[str, str]]:
    return [{"dataset": each.key, "set": each.set_of("test").key} for each in datasets]
