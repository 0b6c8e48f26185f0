"""Models: what training made, taken out by those who hold `download` (rules P2, P6).

    folder = run.final.download("model")           # or net.models.download(task, "model")
    arrays = tilth.algorithm.weights.load(folder)  # or YourAlgorithm().load(folder)

Invariants:
- A model's name is its SHA-256: bytes that hash to something else are never kept.
- An interrupted download goes on where it stopped; a crash leaves a `.part` beside the folder.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
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
Grant = str | Sequence[str]  # "public", or organizations


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
        """What a task made, or an import by its own key. Raises InvalidInput when there is nothing
        (yet)."""
        for key in (f"{task}/{output}", task):
            row = self._net.rows.get(f"model/{key}")
            if row is not None:
                return Model.from_row(key, row)
        raise InvalidInput(
            "this task has made no model",
            found=task,
            expected="a finished task that makes models, or the key of an import",
            remedy="Look at a plan's tasks with: tilth plan show PLAN",
        )

    def import_(
        self,
        path: str | Path,
        *,
        origin: str,
        use: Grant = "public",
        download: Grant = (),
        metadata: Mapping[str, str] | None = None,
    ) -> Model:
        """Registers a model that was made elsewhere: an HDF5 or safetensors file, or a folder as
        the algorithm's `load` reads it. Plans take it as `tilth.plan.Model(key)`.

        origin    where it comes from, in words, for all to read (1 to 400 characters)
        use       who may run it: "public", or organizations
        download  who may take it out; default: nobody but its owner
        """
        content, form = _packed(Path(path))
        digest = hashlib.sha256(content).hexdigest()
        self._net.transport.put_blob(digest, content)
        key = self._net.new_key()
        operation: dict[str, Any] = {
            "op": "model.import",
            "key": key,
            "digest": digest,
            "size": len(content),
            "format": form,
            "origin": origin,
            "grants": {"use": self._grant(use), "download": self._grant(download)},
        }
        self._net.record(operation | ({"metadata": dict(metadata)} if metadata else {}))
        return self.one(key)

    def narrow(
        self,
        model: "Model | str",
        *,
        use: Grant | None = None,
        download: Grant | None = None,
        output: str = "model",
    ) -> None:
        """Only these may use or download it from now on. For the owner of its plan (rule P2)."""
        found = self._made(model, output)
        stated = {"use": use, "download": download}
        grants = {right: grant for right, grant in stated.items() if grant is not None}
        self._say(
            *(
                {"op": "model.narrow", **found, "right": right, "grant": self._grant(grant)}
                for right, grant in grants.items()
            )
        )

    def widen(
        self,
        model: "Model | str",
        *,
        use: Sequence[str] = (),
        download: Sequence[str] = (),
        output: str = "model",
    ) -> None:
        """Consents, as an owner of data behind it, that these organizations use or download it; it
        holds once every owner of such data has said so (rule P2)."""
        found = self._made(model, output)
        stated = {"use": list(use), "download": list(download)}
        self._say(
            *(
                {"op": "model.widen", **found, "right": right, "organizations": sorted(who)}
                for right, who in stated.items()
                if who
            )
        )

    def _made(self, model: "Model | str", output: str) -> dict[str, str]:
        """How the ledger names what a task made; an import keeps the grants it came with."""
        found = self.one(model, output) if isinstance(model, str) else model
        if not found.output:
            raise InvalidInput(
                "an imported model keeps the grants it was registered with",
                found=found.task,
                expected="the task that made a model",
                remedy="Import it again under other grants: tilth model import FILE --use ORG",
            )
        return {"task": found.task, "output": found.output}

    def _say(self, *operations: dict[str, Any]) -> None:
        if not operations:
            raise InvalidInput(
                "nothing is said about the model's grants",
                found="neither use nor download",
                expected="organizations for one of them, or both",
                remedy="For example: tilth model narrow TASK --use hospital-a",
            )
        self._net.record(*operations)

    def _grant(self, grant: Grant) -> str | tuple[str, ...]:
        """As the ledger takes it: the owner is in every list (rule P1)."""
        if isinstance(grant, str):
            return grant
        return tuple(sorted({*grant, self._net.organization}))

    def download(self, model: "Model | str", folder: str | Path) -> Path:
        """Writes a model (or the model of a task, by key) into a folder that does not exist yet,
        as the algorithm's `load` reads it. Raises Refused (P6) without the right."""
        found = self.one(model) if isinstance(model, str) else model
        target = Path(folder)
        if target.exists():
            raise InvalidInput(
                "a model is written into a new folder",
                found=f"{target} exists",
                expected="none",
                remedy="Choose another one with --out.",
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
            self._net.rows.reach()
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
        return plan.over and model.task not in plan.final


def _packed(path: Path) -> tuple[bytes, str]:
    """A model's bytes as they travel, and their format."""
    if path.is_dir():
        return archive.write(_files(path)), "archive"
    forms = {Path(name).suffix: form for form, name in FILES.items()}
    if not path.is_file() or path.suffix not in forms:
        raise InvalidInput(
            "this is no model",
            found=str(path) if path.exists() else f"no file {path}",
            expected=f"a file that ends in {' or '.join(sorted(forms))}, or a folder",
            remedy="Write one with tilth.algorithm.weights.write, or name the folder it is in.",
        )
    return path.read_bytes(), forms[path.suffix]


def _files(folder: Path) -> Iterator[archive.ArchiveFile]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            name = path.relative_to(folder).as_posix()
            yield archive.ArchiveFile(name, False, path.read_bytes())
