"""Data samples: what the ledger knows of them, and taking them back.

A sample is one unit of data and of consent. Its bytes stay on its owner's node; the ledger holds a
key, a label, a salted commitment and a duplicate tag (rules D3, D4).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tilth.assets import Dataset, SampleSet
from tilth.errors import InvalidInput

if TYPE_CHECKING:
    from tilth.client import Network

WITHDRAWN_PER_ENTRY = 50


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample as the ledger has it."""

    key: str
    datasets: tuple[str, ...]
    label: str
    status: str  # active or withdrawn

    @classmethod
    def from_row(cls, key: str, row: dict[str, Any]) -> "Sample":
        return cls(key, tuple(row["datasets"]), row["label"], row["status"])


class Samples:
    """Data samples of the consortium."""

    def __init__(self, net: "Network") -> None:
        self._net = net

    def list(
        self, dataset: Dataset | None = None, *, owner: str | None = None
    ) -> tuple[Sample, ...]:
        """What the ledger has, also withdrawn ones: of a dataset, of an owner, or of all."""
        owner = dataset.owner if dataset else owner
        prefix = f"sample/{owner}/" if owner else "sample/"
        found = (
            Sample.from_row(key.removeprefix("sample/"), row)
            for key, row in self._net.rows.scan(prefix)
        )
        return tuple(each for each in found if dataset is None or dataset.key in each.datasets)

    def withdraw(self, keys: Sequence[str]) -> tuple[SampleSet, ...]:
        """Takes samples back: no new task uses them, and the sets that hold them retire (rule D5).
        Sets of what is left are sealed at once, so that their datasets stay usable; returns these.
        Objectives on a retired set need a revision. For their owner."""
        samples = [self._mine(key) for key in dict.fromkeys(keys)]
        active = [each.key for each in samples if each.status == "active"]
        for start in range(0, len(active), WITHDRAWN_PER_ENTRY):
            part = active[start : start + WITHDRAWN_PER_ENTRY]
            self._net.record(*({"op": "sample.withdraw", "key": key} for key in part))
        touched = {(dataset, each.label) for each in samples for dataset in each.datasets}
        return tuple(self._seal(touched))

    def _seal(self, touched: Iterable[tuple[str, str]]) -> Iterable[SampleSet]:
        usable = {each.key for each in self._net.datasets.list()}
        for dataset, label in sorted(touched):
            if dataset in usable:
                made = self._net.datasets.seal(dataset, label)
                if made:
                    yield made

    def _mine(self, key: str) -> Sample:
        row = self._net.rows.get(f"sample/{key}")
        if row is None:
            raise InvalidInput(
                "there is no such sample",
                found=key,
                expected="a key of the form organization/32 hexadecimal digits",
                remedy="Look at a dataset's samples with: tilth sample list DATASET",
            )
        return Sample.from_row(key, row)
