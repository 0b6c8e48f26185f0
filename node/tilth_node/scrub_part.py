"""The scrub of a running node: once a day, in a process of its own at the lowest priority.

- The event loop only waits for that process; a timer says when the next one is due.
- A damaged block is fetched from other nodes and verified before it is written; what can't be got
  back this way is told to the operator, with the file and what to run.
- Where rows or what finds them are damaged, twice seen, the node stands still, without votes and
  without entries, and takes a snapshot from another node instead of its file.

Leaves to others: looking (scrubbing), fetching (past).
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tilth_ledger.errors import TilthError
from tilth_node.errors import StorageFailed
from tilth_node.logs import logger

FIRST_SECONDS = 120.0  # after a start
EVERY_SECONDS = 24 * 3600.0
SHARE = "10"  # percent of one core

Repair = Callable[[int], Awaitable[bool]]


class Scrub:
    """Looks through the node's own folder."""

    def __init__(self, folder: Path, repair: Repair) -> None:
        self._folder, self._repair = folder, repair
        self._log = logger("scrub")
        self.on_alarm: Callable[[str, str], None] = lambda kind, words: None
        # The ledger's file is damaged beyond single blocks: what is read of it is not believed.
        self.on_damage: Callable[[str], None] = lambda words: None
        self.first_seconds, self.share = FIRST_SECONDS, SHARE
        self._due = asyncio.Event()
        self._failed: StorageFailed | None = None

    def fail(self, failed: StorageFailed) -> None:
        """A read found damage, whoever asked: end the process, which says so in its words."""
        self._failed = failed
        self._due.set()

    async def run(self) -> None:
        """Scrub when it is due, until cancelled. Raises StorageFailed when a read found damage."""
        seconds = self.first_seconds
        while True:
            timer = asyncio.get_running_loop().call_later(seconds, self._due.set)
            try:
                await self._due.wait()
            finally:
                timer.cancel()
            self._due.clear()
            if self._failed is not None:
                raise self._failed
            await self.once()
            seconds = EVERY_SECONDS

    async def once(self) -> bool:
        """One pass, with what can be repaired; whether all is well then."""
        left: list[dict[str, Any]] = []
        for each in await self._look():
            if not (each["height"] and await self._repaired(each["height"])):
                left.append(each)
        words = [f"{each['file']}: {each['what']}. {each['remedy']}" for each in left]
        self.on_alarm("scrub", "; ".join(words[:3]))
        if any(_spoils_rows(each) for each in left):
            # What a second look does not find was no damage: a disk that failed to answer once.
            again = [each for each in await self._look() if _spoils_rows(each)]
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

    async def _look(self) -> list[dict[str, Any]]:
        command = ("-m", "tilth.cli", "node", "scrub", str(self._folder))
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *(*command, "--share", self.share, "--json"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            said, errors = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode not in (0, 1):
            self._log.error("scrub failed", error=errors.decode(errors="replace")[-500:])
            return []
        found = json.loads(said)
        self._log.info("scrubbed", blocks=found["blocks"], damages=len(found["damages"]))
        return list(found["damages"])


def _spoils_rows(damage: dict[str, Any]) -> bool:
    """Whether it is of the ledger's file, and not of one block."""
    return not damage["height"] and damage["file"].endswith("ledger.db")
