"""Datasets: samples that stay where they are, the code that reads them, and who may use them.

Invariants:
- Bytes of samples never pass through here: the node imports them from a path of its own, and the
  ledger learns a salted commitment and a duplicate tag of each (rules D3, D4).
- `add` can be repeated after any interruption: what is registered is not registered again.
- The owner is always in its own grants (rule P1).
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tilth.assets import Algo, Dataset, Environment, SampleSet
from tilth.blobs import write_code
from tilth.errors import InvalidInput
from tilth.progress import Progress, Silent
from tilth.registry import Assets
from tilth_ledger import canonical

if TYPE_CHECKING:
    from tilth.transport import Imported

# Keys and samples per entry, so that each entry fits a leaf of 65,535 bytes.
SAMPLES_PER_ENTRY = 200
KEYS_PER_ENTRY = 500


class Datasets(Assets[Dataset]):
    """Data that models travel to."""

    noun = "dataset"
    command = "tilth data"

    def mine(self, name_or_key: str) -> Dataset:
        """A dataset of this organization, by name or key."""
        for each in self.list(owner=self._net.organization):
            if name_or_key in (each.key, each.name):
                return each
        return self.one(name=name_or_key, owner=self._net.organization)

    def add(
        self,
        name: str,
        *,
        opener: str | Path | None = None,
        train: str | Path | None = None,
        test: str | Path | None = None,
        predict: str | Path | None = None,
        targets: Sequence[str] = (),
        in_place: bool = False,
        approval: str = "none",
        description: str = "",
        environment: Environment | None = None,
        progress: Progress | None = None,
    ) -> Dataset:
        """Registers a dataset, or adds samples to the one of this name, and seals a set of all
        samples of each label that was given. Paths of samples are on the node's machine.

        opener    folder with tilth.toml and the code that reads samples; for a new dataset
        train     folder on the node: each file or folder in it is one sample; also test, predict
        targets   globs of the files that hold labels; without them the opener exports features
        in_place  the node reads the bytes where they are, and keeps no copy
        approval  "required": each use needs the owner's word (rule P5)
        """
        folders = {"train": train, "test": test, "none": predict}
        own = self.list(name=name, owner=self._net.organization)
        stated: dict[str, Any] = {"targets": list(targets), "approval": approval}
        if description:
            stated["description"] = description
        key = own[0].key if own else self._new(name, opener, environment, stated)
        for label, folder in folders.items():
            if folder is not None:
                path = str(Path(folder).absolute())
                self._import(key, label, path, in_place, progress or Silent())
        return self.find(key)

    def grant(self, dataset: Dataset, *, min_parties: int | None = None, **grants: Any) -> Dataset:
        """Replaces the grants of the given rights: `train=["hospital-a"]`, `test="public"`,
        `mixed="participants"`. Binds every later use, also in running plans (rule P4)."""
        if min_parties is not None and "mixed" not in grants:
            grants["mixed"] = dataset.grants.get("mixed", [])
        operations = []
        for right, who in grants.items():
            operation: dict[str, Any] = {"op": "dataset.grant", "key": dataset.key, "right": right}
            operation["grant"] = who if isinstance(who, str) else self._with_owner(who)
            if right == "mixed" and min_parties is not None:
                operation["min_parties"] = min_parties
            operations.append(operation)
        if not operations:
            raise InvalidInput(
                "nothing to grant",
                expected="a right: train, test, updates, mixed, logs, report, details or probe",
                remedy=f"For example: tilth data grant {dataset.name} --train ORGANIZATION",
            )
        self._net.record(*operations)
        return self.find(dataset.key)

    def accept_algo(self, dataset: Dataset, algo: Algo) -> None:
        """Lets an aggregation algorithm mix models that were trained on the dataset (P3)."""
        self._net.record({"op": "algo.accept", "dataset": dataset.key, "algo": algo.archive})

    def of_set(self, key: str) -> Dataset:
        """The dataset of a sealed set, with that set as the current one of its label."""
        for each in self.list():
            if any(key == sealed.key for sealed in each.sets):
                return each.using(key)
        raise InvalidInput(
            "there is no such sample set",
            found=key,
            expected="the key of a sealed set",
            remedy="Look at a dataset's sets with: tilth data sets NAME",
        )

    def withdraw(self, dataset: Dataset) -> None:
        """No new use of it; what was trained and tested on it stays, and is marked (rule A4)."""
        self._net.record({"op": "dataset.withdraw", "key": dataset.key})

    def code(self, dataset: Dataset, folder: str | Path) -> Path:
        """Writes the code of its opener into a new folder. Raises Refused (P6) without `train` or
        `test`."""
        row = self._net.rows.get(f"dataset/{dataset.key}") or {}
        return write_code(self._net, row["opener"], folder)

    def _all(self) -> Iterable[Dataset]:
        sets: dict[str, list[SampleSet]] = {}
        for key, row in self._rows("sampleset/"):
            if row["status"] == "sealed":
                sets.setdefault(row["dataset"], []).append(SampleSet.from_row(key, row))
        for key, row in self._rows("dataset/"):
            yield Dataset.from_row(key, row, sets.get(key, ()))

    def _new(
        self,
        name: str,
        opener: str | Path | None,
        environment: Environment | None,
        stated: Mapping[str, Any],
    ) -> str:
        if opener is None:
            raise InvalidInput(
                f"{name!r} is a new dataset, and nothing says how to read its samples",
                expected="an opener: a folder with tilth.toml and an Opener class",
                remedy=f"tilth data add {name} --opener DIR ...",
            )
        from tilth.algorithm import archive

        packed = archive.of(Path(opener))
        self._net.transport.put_blob(packed.digest, packed.data)
        key = self._net.new_key()
        self._net.record(
            {
                "op": "dataset.add",
                "key": key,
                "name": name,
                "opener": packed.digest,
                "environment": (environment or self._net.environments.default()).key,
                **stated,
            }
        )
        return key

    def _import(
        self, dataset: str, label: str, path: str, in_place: bool, progress: Progress
    ) -> None:
        samples: list[Imported] = []
        for step in self._net.transport.import_data(dataset, label, path, in_place=in_place):
            progress.update(step.done, step.total, f"{label} samples of {path}")
            samples.extend(step.samples)
        registered = self._registered(dataset, label)
        unregistered = [each for each in samples if each.key not in registered]
        for part in _parts(unregistered, SAMPLES_PER_ENTRY):
            self._net.record(
                {
                    "op": "sample.add",
                    "datasets": [dataset],
                    "label": label,
                    "samples": [
                        {"key": e.key, "commitment": e.commitment, "tag": e.tag} for e in part
                    ],
                }
            )
        self.seal(dataset, label)

    def _registered(self, dataset: str, label: str) -> dict[str, bool]:
        """The dataset's samples of a label, and whether each is active: what was withdrawn stays
        so, although its bytes may be imported again."""
        return {
            key.removeprefix("sample/"): row["status"] == "active"
            for key, row in self._net.rows.scan(f"sample/{self._net.organization}/")
            if dataset in row["datasets"] and row["label"] == label
        }

    def seal(self, dataset: str, label: str) -> SampleSet | None:
        """One set of all active samples of a label so far, unless there is one already; None
        without any. `add` and withdrawing samples do this."""
        registered = self._registered(dataset, label)
        keys = sorted(key for key, active in registered.items() if active)
        if not keys:
            return None
        digest = set_digest(keys)
        for name, row in self._rows("sampleset/"):
            same = row.get("digest") == digest and row["dataset"] == dataset
            if same and row["status"] == "sealed":
                return SampleSet.from_row(name, row)
        key = self._net.new_key()
        parts = list(_parts(keys, KEYS_PER_ENTRY))
        for number, part in enumerate(parts):
            operation: dict[str, Any] = {
                "op": "sampleset.add",
                "key": key,
                "dataset": dataset,
                "label": label,
                "part": number,
                "parts": len(parts),
                "samples": part,
            }
            if number == len(parts) - 1:
                operation |= {"digest": digest, "count": len(keys)}
            self._net.record(operation)
        return SampleSet(key, dataset, label, len(keys))

    def _with_owner(self, who: Iterable[str]) -> list[str]:
        return sorted({*who, self._net.organization})


def set_digest(keys: Sequence[str]) -> str:
    """The digest of a sample set: SHA-256 of its sorted keys as canonical JSON."""
    return hashlib.sha256(canonical.dumps(sorted(keys))).hexdigest()


def _parts(items: Sequence[Any], size: int) -> Iterator[Any]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
