"""Exported features, kept for the next test on the same samples.

Invariants
- They are found by all that they were made from, and by how: opener, environment, set, selection,
  the runtime's grade, whether a fresh isolation was demanded, whether every byte of the data was
  hashed before. So nothing stricter is answered by something laxer.
- What the step that made them was (grade, warm, runtime, image) lies beside them, for receipts.
- Their tree digest too: before a test that may be certified they are hashed again (rule D2), and
  what no longer has its digest is removed and exported anew.

Leaves to others: running the step that exports (`tilth_node.worker.execution`).
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tilth_ledger.canonical import dumps, sha256_hex
from tilth_ledger.errors import InvalidInput
from tilth_node.runtimes import StepResult, Usage
from tilth_node.storage import walk
from tilth_node.storage.sets import remove_tree

TREE, MADE = "features", "made.json"
FACTS = ("grade", "warm", "runtime", "image")


class Features:
    """The kept features of one node, below `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def find(self, made_from: Mapping[str, Any], *, content: bool) -> StepResult | None:
        """What the step gave that made these features; None when it must run (again)."""
        folder = self._folder(made_from)
        try:
            made = json.loads((folder / MADE).read_bytes())
            if not content or walk.digest_of(folder / TREE) == made["digest"]:
                return _result(folder, made)
        except FileNotFoundError:
            return None
        except (InvalidInput, ValueError):
            pass  # a link where a file was, or facts that a power cut took: not ours any more
        remove_tree(folder)
        return None

    def keep(self, made_from: Mapping[str, Any], result: StepResult) -> StepResult:
        """Move what the step exported to where the next test finds it."""
        folder = self._folder(made_from)
        if folder.is_dir():
            return result  # another task was faster; this one goes on with its own
        facts = {name: getattr(result, name) for name in FACTS}
        facts["digest"] = walk.digest_of(result.outputs[TREE])
        part = folder.with_suffix(".part")
        remove_tree(part)
        part.mkdir(parents=True)
        os.replace(result.outputs[TREE], part / TREE)
        (part / MADE).write_text(json.dumps(facts))
        # A crash here leaves a `.part` folder; the features are exported again.
        part.rename(folder)
        return _result(folder, facts)

    def _folder(self, made_from: Mapping[str, Any]) -> Path:
        return self._root / sha256_hex(dumps(dict(made_from)))


def _result(folder: Path, made: Mapping[str, Any]) -> StepResult:
    """As if the step had run just now, for nothing."""
    facts = {name: made[name] for name in FACTS}
    return StepResult(0, None, "", {TREE: folder / TREE}, b"", 0, Usage(), **facts)
