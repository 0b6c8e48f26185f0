"""Local folders: what a plan's tasks keep on this node from one task to the next.

Invariants
- Versioned by task: a task works on a copy of its nearest ancestor's folder, so a retry, and a
  sibling, see exactly what the first try saw.
- The result becomes the task's folder only when its `done` is final; until then it lies beside
  it under the attempt's name.
- A folder that became current is never written again.

Layout: `<plan>/<task>` current, `<plan>/<task>.<attempt>.work` being written,
`<plan>/<task>.<attempt>.ready` collected and waiting for finality. All moves are renames.

Leaves to others: who the nearest ancestor is (`tilth_ledger.graph`).
"""

import fcntl
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from tilth_node.storage import walk

FICLONE = 0x40049409


class Folders:
    """Local folders of all plans, under `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)

    def begin(self, plan: str, task: str, attempt: int, ancestor: str | None) -> Path:
        """A fresh working copy of `ancestor`'s folder (empty when there is none)."""
        work = self._named(plan, task, attempt, "work")
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        if ancestor is not None:
            current = self._current(plan, ancestor)
            if current.is_dir():
                copy_tree(current, work)
        return work

    def ready(self, plan: str, task: str, attempt: int) -> str:
        """The attempt is over and its result kept until finality; returns its tree digest."""
        work = self._named(plan, task, attempt, "work")
        digest = walk.digest_of(work)
        ready = self._named(plan, task, attempt, "ready")
        shutil.rmtree(ready, ignore_errors=True)
        os.replace(work, ready)
        return digest

    def commit(self, plan: str, task: str, attempt: int) -> None:
        """The attempt's `done` is final: its folder is the task's. Repeating it changes nothing."""
        ready = self._named(plan, task, attempt, "ready")
        if ready.is_dir() and not self._current(plan, task).exists():
            os.replace(ready, self._current(plan, task))

    def discard(self, plan: str, task: str, attempt: int) -> None:
        """The attempt counts for nothing: its folders go, its ancestor's stays."""
        for state in ("work", "ready"):
            shutil.rmtree(self._named(plan, task, attempt, state), ignore_errors=True)

    def digest(self, plan: str, task: str) -> str | None:
        """Tree digest of a task's current folder."""
        current = self._current(plan, task)
        return walk.digest_of(current) if current.is_dir() else None

    def drop(self, plan: str) -> None:
        """The plan is closed (rule L5): nothing will ask for its folders again."""
        shutil.rmtree(self._root / _name(plan), ignore_errors=True)

    def plans(self) -> Iterable[str]:
        """Plans that have folders here."""
        return [path.name.replace("+", "/", 1) for path in self._root.iterdir()]

    def _current(self, plan: str, task: str) -> Path:
        return self._root / _name(plan) / _name(task)

    def _named(self, plan: str, task: str, attempt: int, state: str) -> Path:
        return self._root / _name(plan) / f"{_name(task)}.{attempt}.{state}"


def _name(key: str) -> str:
    """`<organization>/<id>` as one name of a folder; neither part holds a plus sign."""
    return key.replace("/", "+")


def copy_tree(source: Path, target: Path) -> None:
    """Copy files into an existing folder, sharing their blocks where the disk can."""
    for item in walk.listing(source):
        place = target / item.path
        place.parent.mkdir(parents=True, exist_ok=True)
        clone(source / item.path, place)
        os.chmod(place, 0o755 if item.executable else 0o644)


def clone(source: Path, target: Path) -> None:
    """One file: a reflink where the file system has them, else a copy."""
    with source.open("rb") as original, target.open("xb") as copy:
        try:
            fcntl.ioctl(copy.fileno(), FICLONE, original.fileno())
        except OSError:
            shutil.copyfileobj(original, copy, 1 << 20)
