"""The scrub of a running node: rows each hour, everything each day, in a process of its own at the
lowest priority.

- The event loop only waits for that process; a timer says when the next one is due.
- A damaged block is fetched from other nodes and verified before it is written; what can't be got
  back this way is told to the operator, with the file and what to run.
- A damaged blob is set aside, so that whoever wants it fetches it again.
- Where rows or what finds them are damaged, twice seen, the node stands still, without votes and
  without entries, and takes a snapshot from another node instead of its file.
- What was looked at last, when, and what was found survives a restart, in `run/scrub.json`.

Leaves to others: looking (scrubbing), fetching (past), showing (rpc.status, running).
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tilth_ledger.errors import TilthError
from tilth_node.clock import Clock
from tilth_node.errors import StorageFailed
from tilth_node.folder import Folder
from tilth_node.logs import logger
from tilth_node.scrub_state import ALL, ROWS, ScrubState, load, save

FIRST_SECONDS = 120.0  # after a start
EVERY_SECONDS = 3600.0
ROWS_BETWEEN = 23  # looks at the rows between two at everything
SHARE = "10"  # percent of one core
MAX_LINE_BYTES = 16 << 20  # of what the process says: each damage is some hundred bytes

Repair = Callable[[int], Awaitable[bool]]


class Scrub:
    """Looks through the node's own folder."""

    def __init__(self, folder: Path, repair: Repair, clock: Clock) -> None:
        self._folder, self._repair, self._clock = folder, repair, clock
        self._file = Folder(folder).scrub
        self._log = logger("scrub")
        self.on_alarm: Callable[[str, str], None] = lambda kind, words: None
        # The ledger's file is damaged beyond single blocks: what is read of it is not believed.
        self.on_damage: Callable[[str], None] = lambda words: None
        # A blob has other bytes than its name says: called in a thread.
        self.on_blob: Callable[[str], object] = lambda digest: None
        self.first_seconds, self.share = FIRST_SECONDS, SHARE
        self.state: ScrubState = load(self._file)
        self.percent: int | None = None  # of the look that is under way
        self._due = asyncio.Event()
        self._failed: StorageFailed | None = None

    def fail(self, failed: StorageFailed) -> None:
        """A read found damage, whoever asked: end the process, which says so in its words."""
        self._failed = failed
        self._due.set()

    async def run(self) -> None:
        """Scrub when it is due, until cancelled. Raises StorageFailed when a read found damage."""
        seconds, rows_left = self.first_seconds, 0
        while True:
            timer = asyncio.get_running_loop().call_later(seconds, self._due.set)
            try:
                await self._due.wait()
            finally:
                timer.cancel()
            self._due.clear()
            if self._failed is not None:
                raise self._failed
            await self.once(ROWS if rows_left else ALL)
            seconds, rows_left = EVERY_SECONDS, rows_left - 1 if rows_left else ROWS_BETWEEN

    async def once(self, what: str = ALL) -> bool:
        """One pass, with what can be repaired; whether all is well then."""
        found = await self._look(what)
        if found is None:
            return False
        left: list[dict[str, Any]] = []
        for each in found:
            if each["blob"]:
                await asyncio.to_thread(self.on_blob, each["blob"])
            if not (each["height"] and await self._repaired(each["height"])):
                left.append(each)
        words = [f"{each['file']}: {each['what']}. {each['remedy']}" for each in left]
        self.state = self.state.after(what, self._clock.wall_ms(), len(found), len(left))
        save(self._file, self.state)
        if what == ALL or words:  # rows alone say nothing of what else was found
            self.on_alarm("scrub", "; ".join(words[:3]))
        if any(_spoils_rows(each) for each in left):
            # What a second look does not find was no damage: a disk that failed to answer once.
            again = [each for each in await self._look(what) or () if _spoils_rows(each)]
            if again:
                first = again[0]
                self.on_damage(f"{first['file']}: {first['what']}. {first['remedy']}")
        return not words

    async def _repaired(self, height: int) -> bool:
        try:
            done = await self._repair(height)
        except TilthError as error:
            self._log.error("block not repaired", height=height, error=str(error))
            return False
        self._log.warning("damaged block", height=height, repaired=done)
        return done

    async def _look(self, what: str) -> list[dict[str, Any]] | None:
        """What is damaged; None when the process did not come to its end."""
        options = ["--share", self.share, "--json", "--progress"]
        options += ["--rows"] if what == ROWS else []
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tilth.cli", "node", "scrub", str(self._folder), *options),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=MAX_LINE_BYTES,
        )
        self.percent = 0
        try:
            said, errors = await asyncio.gather(self._told(process), _rest(process.stderr))
            await process.wait()
        finally:
            self.percent = None
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode not in (0, 1):
            self._log.error("scrub failed", error=errors.decode(errors="replace")[-500:])
            return None
        found = json.loads(said)
        counts = {name: found[name] for name in ("blocks", "rows")}
        self._log.info("scrubbed", what=what, **counts, damages=len(found["damages"]))
        return list(found["damages"])

    async def _told(self, process: asyncio.subprocess.Process) -> bytes:
        """The last line; those before it say how far the look is."""
        last = b""
        if process.stdout is not None:  # PIPE makes it
            async for line in process.stdout:
                last = line
                if line.endswith(b" %\n"):
                    self.percent = int(line[:-3])
        return last


async def _rest(pipe: asyncio.StreamReader | None) -> bytes:
    return b"" if pipe is None else await pipe.read()


def _spoils_rows(damage: dict[str, Any]) -> bool:
    """Whether it is of the ledger's file, and not of one block."""
    return not damage["height"] and damage["file"].endswith("ledger.db")
