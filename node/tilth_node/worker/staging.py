"""Filling the folders of a step: from digests and set keys to files and mounts.

Invariants
- Nothing is mounted that the step's folders do not name; user code gets no writable path of the
  node, only copies.
- An archive is unpacked once, under its digest; a set's tree is built once, under its key.
- What a sample set holds is checked against what was registered before it is mounted (rule D2).

Leaves to others: that the blobs are here (`tilth_node.worker.attempt` fetches first), what a
runtime does with a mount (`tilth_node.runtimes`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock

from tilth_ledger.archive import ArchiveBounds
from tilth_ledger.errors import InvalidInput
from tilth_ledger.rows import Row, Rows
from tilth_ledger.steps import MODEL_FILES, Folder, Source, Step
from tilth_node.runtimes import Mount
from tilth_node.runtimes.unpack import unpack
from tilth_node.storage import walk
from tilth_node.storage.folders import Folders
from tilth_node.storage.samples import DataChanged, Sample, Samples, check_hash, check_metadata
from tilth_node.storage.sets import Sets, remove_tree
from tilth_node.storage.vault import Vault

CACHED_SETS = 64
MODEL_BOUNDS = ArchiveBounds(files=100_000, total_bytes=1 << 40)  # its size was bounded before
COPIED_BYTES = 64 << 20  # an earlier step's files up to here are copied in, above mounted


@dataclass(frozen=True, slots=True)
class Filled:
    """The folders of one step, ready for a runtime."""

    mounts: tuple[Mount, ...]
    files: Mapping[str, bytes | Path]


class Stage:
    """Fills folders from this node's stores; unpacked archives lie under `code`."""

    def __init__(
        self,
        vault: Vault,
        samples: Samples,
        sets: Sets,
        folders: Folders,
        code: Path,
        rows: Rows,
    ) -> None:
        self._vault, self._samples, self._sets = vault, samples, sets
        self._folders, self._code, self._rows = folders, code, rows
        self._building = Lock()  # one thread at a time makes what tasks share
        self._members = lru_cache(CACHED_SETS)(self._read_members)
        code.mkdir(parents=True, exist_ok=True)

    def prepare(self, steps: Iterable[Step], *, content: bool) -> None:
        """What may take long, for a thread: check each set (rule D2; `content`: hash every byte),
        build its trees, unpack archives. Read each set's `members` on the event loop before."""
        checked: set[str] = set()
        for folder in (folder for step in steps for folder in step.folders):
            if folder.set and folder.set not in checked:
                checked.add(folder.set)
                for sample in self.members(folder.set):
                    check(sample, content=content)
            self._build(folder)

    def _build(self, folder: Folder) -> None:
        with self._building:
            match folder.source:
                case Source.ARCHIVE:
                    self.unpacked(folder.digest)
                case Source.MODEL if folder.format not in MODEL_FILES:
                    self.unpacked(folder.digest, MODEL_BOUNDS)
                case Source.SAMPLES:
                    self._sets.data(folder.set, self.members(folder.set))
                case Source.FEATURES:
                    self._sets.features(folder.set, self.members(folder.set), folder.without)
                case _:
                    pass

    def fill(self, task: Row, step: Step, earlier: Mapping[str, Path]) -> Filled:
        """Files and mounts of `step`; `earlier` holds the folders that earlier steps left, by
        path. Quick after `prepare`."""
        mounts: list[Mount] = []
        files: dict[str, bytes | Path] = {}
        for folder in step.folders:
            match folder.source:
                case Source.ARCHIVE:
                    mounts.append(Mount(self.unpacked(folder.digest), folder.path))
                case Source.MODEL:
                    files |= self._model(folder)
                    files |= self._report(task, folder)
                case Source.SAMPLES:
                    tree = self._sets.data(folder.set, self.members(folder.set))
                    mounts.append(Mount(tree, folder.path))
                case Source.FEATURES:
                    members = self.members(folder.set)
                    tree = self._sets.features(folder.set, members, folder.without)
                    mounts.append(Mount(tree, folder.path))
                case Source.STEP:
                    self._step(folder, earlier, mounts, files)
                case Source.LOCAL:
                    files |= self._local(task, folder)
        return Filled(tuple(mounts), files)

    def members(self, key: str) -> tuple[Sample, ...]:
        """The samples of a sealed set, as this node holds them; raises DataChanged on a gap."""
        members: tuple[Sample, ...] = self._members(key)
        return members

    def local(self, task: Row) -> Path | None:
        """The local folder that a task starts from."""
        ancestor = task.get("local_from")
        row = None if ancestor is None else self._rows.get(f"task/{ancestor}")
        if ancestor is None or row is None or row["state"] != "done":
            return None
        # Its `done` is final although this node may not have been told yet.
        self._folders.commit(task["plan"], ancestor, row["attempt"])
        return self._folders.current(task["plan"], ancestor)

    def unpacked(self, digest: str, bounds: ArchiveBounds | None = None) -> Path:
        """The folder of an archive. Raises InvalidInput when the archive is hostile."""
        folder = self._code / digest
        if not folder.is_dir():
            self._check_length(digest, bounds or ArchiveBounds())
            part = folder.with_suffix(".part")
            remove_tree(part)
            part.mkdir()
            unpack(self._vault.load(digest), part, bounds)
            # A crash here leaves a `.part` folder; it is unpacked again.
            part.rename(folder)
        return folder

    def _check_length(self, digest: str, bounds: ArchiveBounds) -> None:
        """An archive is read whole; a blob may be far larger than memory."""
        size = self._vault.path(digest).stat().st_size
        if size > bounds.archive_bytes:
            raise InvalidInput(
                "an archive is larger than its bound",
                found=f"{size} bytes",
                expected=f"at most {bounds.archive_bytes} bytes",
            )

    def forget(self, digest: str) -> None:
        """The blob is no longer needed, nor is what was unpacked of it."""
        remove_tree(self._code / digest)

    def _model(self, folder: Folder) -> dict[str, bytes | Path]:
        if name := MODEL_FILES.get(folder.format):
            return {f"{folder.path}/{name}": self._vault.path(folder.digest)}
        return _tree(self.unpacked(folder.digest, MODEL_BOUNDS), folder.path)

    def _report(self, task: Row, folder: Folder) -> dict[str, bytes | Path]:
        """The report of the task that made a model, beside the model: a mean needs its counts."""
        digest = report_of(self._rows, task, folder)
        if digest is None or not self._vault.has(digest):
            return {}
        return {f"{folder.path}.report.json": self._vault.path(digest)}

    def _local(self, task: Row, folder: Folder) -> dict[str, bytes | Path]:
        source = self.local(task)
        return {} if source is None else _tree(source, folder.path)

    def _step(
        self,
        folder: Folder,
        earlier: Mapping[str, Path],
        mounts: list[Mount],
        files: dict[str, bytes | Path],
    ) -> None:
        source = earlier.get(folder.path)
        if source is None:
            raise InvalidInput(
                "a step wants what no step before it left",
                found=folder.path,
                expected=", ".join(earlier) or "nothing was left",
            )
        listed = walk.listing(source)
        if folder.path != "features" and sum(item.size for item in listed) <= COPIED_BYTES:
            files |= {f"{folder.path}/{item.path}": source / item.path for item in listed}
        else:
            mounts.append(Mount(source, folder.path))

    def _read_members(self, key: str) -> tuple[Sample, ...]:
        prefix = f"set-sample/{key}/"
        keys = [row_key.removeprefix(prefix) for row_key, _ in self._rows.scan(prefix)]
        return tuple(_present(key, self._samples.get(key)) for key in keys)


def check(sample: Sample, *, content: bool) -> None:
    """Rule D2. Files that look different but hold the same bytes, as after a restore, pass."""
    if not content:
        try:
            check_metadata(sample)
        except DataChanged:
            check_hash(sample)
    else:
        check_hash(sample)


def report_of(rows: Rows, task: Row, folder: Folder) -> str | None:
    """The digest of the report that belongs beside an input model."""
    name = folder.path.removeprefix("in/")
    edge: Row = next((each for each in task["inputs"] if each["name"] == name), {})
    maker = rows.get(f"task/{edge['task']}") if "task" in edge else None
    return None if maker is None or "report" not in maker else maker["report"]["digest"]


def _present(key: str, sample: Sample | None) -> Sample:
    if sample is None:
        raise DataChanged(
            f"sample {key} is not on this node",
            expected="the samples of its import",
            remedy="restore the node's folder with worker.db, or withdraw the sample",
        )
    return sample


def _tree(source: Path, path: str) -> dict[str, bytes | Path]:
    items: Iterable[walk.Listed] = walk.listing(source)
    return {f"{path}/{item.path}": source / item.path for item in items}
