"""When a node's disk was last looked through, and what was found: `run/scrub.json`.

- Two looks are told apart: at everything, and at the rows alone.
- It says something to the operator and decides nothing, so nothing is synced; a file that makes no
  sense is as none.

Leaves to others: looking (scrub_part), what is shown (rpc.status, running).
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tilth_ledger.canonical import dumps, loads
from tilth_ledger.errors import InvalidInput
from tilth_node.logs import logger

ALL, ROWS = "all", "rows"
MAX_FILE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class ScrubState:
    """Wall times in ms since 1970, 0: never. `found` damages were seen when everything was last
    looked at, or rows since; `left` of them nobody gave back."""

    all_ms: int = 0
    rows_ms: int = 0  # everything holds the rows
    found: int = 0
    left: int = 0

    def after(self, what: str, now_ms: int, found: int, left: int) -> "ScrubState":
        """What is known when a look ended."""
        if what == ALL:
            return ScrubState(now_ms, now_ms, found, left)
        if found:
            return replace(self, rows_ms=now_ms, found=found, left=left)
        return replace(self, rows_ms=now_ms)


def load(file: Path) -> ScrubState:
    """What an earlier run of the node wrote."""
    try:
        with file.open("rb") as opened:
            facts = loads(opened.read(MAX_FILE_BYTES), max_bytes=MAX_FILE_BYTES)
        known = {name: facts[name] for name in asdict(ScrubState())}
    except (OSError, InvalidInput, KeyError, TypeError):
        return ScrubState()
    whole = all(type(value) is int and value >= 0 for value in known.values())
    return ScrubState(**known) if whole else ScrubState()


def save(file: Path, state: ScrubState) -> None:
    """Write it down; a disk that takes no more keeps the node from nothing."""
    draft = file.with_suffix(".new")
    try:
        file.parent.mkdir(mode=0o700, exist_ok=True)
        draft.write_bytes(dumps(asdict(state)))
        draft.replace(file)
    except OSError as error:
        logger("scrub").warning("cannot be written", file=str(file), error=str(error))
