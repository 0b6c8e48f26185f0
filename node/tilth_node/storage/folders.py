"""Local folders: what a plan's tasks keep on this node from one task to the next.

Invariants
- Versioned by task: a task starts from its nearest ancestor's folder and never writes to it, so a
  retry, and a sibling, see exactly what the first try saw.
- The result becomes the task's folder only when its `done` is final; until then it lies beside
  it under the attempt's name.
- A folder that became current is never written again.

Layout: `<plan>/<task>` current, `<plan>/<task>.<attempt>` collected and waiting for finality. All
moves are renames.

Leaves to others: who the nearest ancestor is (`tilth_ledger.graph`).
"""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from tilth_node.storage import walk


class Folders:
    """Local folders of all plans, under `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)

    def current(self, plan: str, task: str) -> Path | None:
        """What the task left, None when it left nothing (or is not final)."""
        folder = self._current(plan, task)
        return folder if folder.is_dir() else None

    def keep(self, plan: str, task: str, attempt: int, collected: Path) -> str:
        """Take the folder that a run left (on the same disk); returns its tree digest."""
        digest = walk.digest_of(collected)
        ready = self._ready(plan, task, attempt)
        shutil.rmtree(ready, ignore_errors=True)
        ready.parent.mkdir(exist_ok=True)
        os.replace(collected, ready)
        return digest

    def commit(self, plan: str, task: str, attempt: int) -> None:
        """The attempt's `done` is final: its folder is the task's. Repeating it changes nothing."""
        ready = self._ready(plan, task, attempt)
        if ready.is_dir() and not self._current(plan, task).exists():
            os.replace(ready, self._current(plan, task))

    def discard(self, plan: str, task: str, attempt: int) -> None:
        """The attempt counts for nothing: what it left goes, its ancestor's stays."""
        shutil.rmtree(self._ready(plan, task, attempt), ignore_errors=True)

    def digest(self, plan: str, task: str) -> str | None:
        """Tree digest of a task's current folder."""
        current = self.current(plan, task)
        return None if current is None else walk.digest_of(current)

    def drop(self, plan: str) -> None:
        """The plan is closed (rule L5): nothing will ask for its folders again."""
        shutil.rmtree(self._root / _name(plan), ignore_errors=True)

    def plans(self) -> Iterable[str]:
        """Plans that have folders here."""
        return [path.name.replace("+", "/", 1) for path in self._root.iterdir()]

    def _current(self, plan: str, task: str) -> Path:
        return self._root / _name(plan) / _name(task)

    def _ready(self, plan: str, task: str, attempt: int) -> Path:
        return self._root / _name(plan) / f"{_name(task)}.{attempt}"


def _name(key: str) -> str:
    """`<organization>/<id>` as one name of a folder; neither part holds a plus sign."""
    return key.replace("/", "+")
