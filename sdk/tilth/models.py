"""Models: what training made, taken out by those who hold `download` (rules P2, P6).

    folder = run.final.download("model")           # or net.models.download(task, "model")
    arrays = tilth.algorithm.weights.load(folder)  # or YourAlgorithm().load(folder)

Invariants:
- A model's name is its SHA-256: bytes that hash to something else are never kept.
- An interrupted download goes on where it stopped; a crash leaves a `.part` beside the folder.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tilth.errors import InvalidInput
from tilth_ledger import archive
from tilth_ledger.errors import Unavailable

if TYPE_CHECKING:
    from tilth.client import Network

# A model that is one file of a known name travels as that file, anything else as an archive.
FILES = {"hdf5": "model.h5", "safetensors": "model.safetensors"}


@dataclass(frozen=True, slots=True)
class Model:
    """A model as the ledger has it."""

    task: str  # that made it; for an import its own key
    output: str
    digest: str
    size: int
    format: str
    owner: str
    worker: str = ""

    @classmethod
    def from_row(cls, key: str, row: dict[str, Any]) -> "Model":
        task, output = "/".join(key.split("/")[:2]), "/".join(key.split("/")[2:])
        size, owner, worker = row["size"], row["owner"], row.get("worker", "")
        return cls(task, output, row["digest"], size, row["format"], owner, worker)


class Models:
    """Models of the consortium."""

    def __init__(self, net: "Network") -> None:
        self._net = net

    def list(self, *, plan: str | None = None) -> tuple[Model, ...]:
        """What training made and what was imported; with `plan` (a key) only its models."""
        return tuple(
            Model.from_row(key.removeprefix("model/"), row)
            for key, row in self._net.rows.scan("model/")
            if plan in (None, row.get("plan"))
        )

    def one(self, task: str, output: str = "model") -> Model:
        """What a task made. Raises InvalidInput when there is nothing (yet)."""
        row = self._net.rows.get(f"model/{task}/{output}")
        if row is None:
            raise InvalidInput(
                "this task has made no model",
                found=task,
                expected="a finished task that makes models",
                remedy="Look at a plan's tasks with: tilth plan show PLAN",
            )
        return Model.from_row(f"{task}/{output}", row)

    def download(self, model: "Model | str", folder: str | Path) -> Path:
        """Writes a model (or the model of a task, by key) into a folder that does not exist yet,
        as the algorithm's `load` reads it. Raises Refused (P6) without the right."""
        found = self.one(model) if isinstance(model, str) else model
        target = Path(folder)
        if target.exists():
            raise InvalidInput(
                "a model is written into a new folder", found=f"{target} exists", expected="none"
            )
        part = target.with_name(f"{target.name}.{found.digest[:16]}.part")
        try:
            self._fetch(found, part)
        finally:
            if part.exists() and not part.stat().st_size:  # nothing came: nothing to go on from
                part.unlink()
        target.mkdir(parents=True)
        if found.format in FILES:
            part.replace(target / FILES[found.format])
            return target
        for file in archive.read(part.read_bytes()):
            place = target / file.path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(file.data)
        part.unlink()
        return target

    def _fetch(self, model: Model, part: Path) -> None:
        part.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with part.open("a+b") as file:
            file.seek(0)
            for piece in iter(lambda: file.read(1 << 20), b""):
                digest.update(piece)
            for piece in self._rest(model, file.tell()):
                digest.update(piece)
                file.write(piece)
        if digest.hexdigest() != model.digest:
            part.unlink()
            raise InvalidInput(
                "the node served other bytes than the model's",
                found=digest.hexdigest(),
                expected=model.digest,
                remedy="Ask again, or ask another node.",
            )

    def _rest(self, model: Model, offset: int) -> Iterator[bytes]:
        if offset >= model.size:
            return
        try:
            yield from self._net.transport.get_blob(model.digest, offset)
        except Unavailable:
            if not self._is_over(model):
                raise
            raise InvalidInput(
                "no node keeps this model any more",
                found="a model of a plan that is over, and not one of its final models",
                expected="a final model: others stay only while a task needs them (rule L6)",
                remedy="Name what is to stay in the plan: plan.final(task)",
            ) from None

    def _is_over(self, model: Model) -> bool:
        """Whether its plan has ended without naming it as final."""
        task = self._net.rows.get(f"task/{model.task}")
        if task is None:  # an import
            return False
        plan = self._net.plans.status(task["plan"])
        return plan.status != "running" and model.task not in plan.final
