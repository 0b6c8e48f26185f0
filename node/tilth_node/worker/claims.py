"""Whether whoever names a blob can have had it: digests are public, the right to the bytes is not.

Anybody who reads the ledger can import a model, register an algo or report an output under the
digest of another's blob. Where a task at this node takes it as input, this node would hand the
bytes to code that has no right to them: it may hold them, or get them by its own right.

Invariants
- A claim is believed when the claimant has the right to the blob without the claim (rule P6,
  judged as if it asked this node). Else the claimant shows that it has the bytes: two honest nodes
  may well make the same model.
- Own claims need no proof: what this organization names lies on its own disk.

Pure. Leaves to others: asking for the bytes (`Blobs.shown`).
"""

from collections.abc import Iterable

from tilth_ledger.errors import Refused
from tilth_ledger.permissions import may_read_blob
from tilth_ledger.rows import Row, Rows
from tilth_ledger.steps import Source, Step
from tilth_node.worker.staging import report_of


def of_steps(rows: Rows, task: Row, steps: Iterable[Step]) -> set[tuple[str, str]]:
    """(digest, organization that names it) of every blob that a task's steps take in, reports
    beside models among them."""
    found: set[tuple[str, str]] = set()
    for folder in (folder for step in steps for folder in step.folders):
        if folder.source in (Source.ARCHIVE, Source.MODEL):
            claimant = _claimant(rows, task, folder.path)
            report = report_of(rows, task, folder)
            found |= {(digest, claimant) for digest in (folder.digest, report) if digest}
    return found


def doubtful(rows: Rows, holder: str, digest: str, claimant: str) -> bool:
    """Whether the claimant must show that it has the bytes before `holder` uses them for it."""
    if claimant == holder:
        return False
    try:
        may_read_blob(rows, digest, claimant, holder=holder)
    except Refused:
        return True
    return False


def _claimant(rows: Rows, task: Row, path: str) -> str:
    match path:
        case "code":
            return _owner(task["algo"])
        case "opener":
            return _owner(task["data"]["dataset"])
        case "metric":
            return _owner(task["objective"])
        case _:
            name = path.removeprefix("in/")
            return _maker(rows, next(edge for edge in task["inputs"] if edge["name"] == name))


def _maker(rows: Rows, edge: Row) -> str:
    """Who made or imported the model of an input."""
    maker = rows.get(f"task/{edge['task']}") if "task" in edge else None
    return _owner(edge["model"]) if maker is None else str(maker["worker"])


def _owner(key: str) -> str:
    return key.partition("/")[0]
