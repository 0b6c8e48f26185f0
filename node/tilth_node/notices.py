"""What an operator should know, as a file beside the running node: `run/notices.json`.

- Alarms, the halt, and what was refused from peers, by peer and reason; for `tilth node status`,
  which asks no running node.
- Written soon after a change, at most once a second: a peer that floods costs no disk.
- Worth nothing after a crash, so nothing is synced.

Leaves to others: what the words say (replication), showing them (running).
"""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tilth_ledger.canonical import dumps
from tilth_node.logs import logger

SECONDS = 1.0

Facts = Mapping[str, Any]


class Notices:
    """Writes `gather()` down when told that it changed."""

    def __init__(self, file: Path, gather: Callable[[], Facts]) -> None:
        self._file = file
        self._gather = gather
        self._due: asyncio.TimerHandle | None = None
        self._last = 0.0

    def changed(self) -> None:
        """Something is new; may be called as often as one likes."""
        if self._due is None:
            loop = asyncio.get_running_loop()
            wait = max(0.0, self._last + SECONDS - loop.time())
            self._due = loop.call_later(wait, self._write)

    def stop(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _write(self) -> None:
        self._due, self._last = None, asyncio.get_running_loop().time()
        draft = self._file.with_suffix(".new")
        try:
            self._file.parent.mkdir(mode=0o700, exist_ok=True)
            draft.write_bytes(dumps(dict(self._gather())))
            draft.replace(self._file)
        except OSError as error:  # the node goes on: who asks it over the network learns the same
            logger("notices").warning("cannot be written", error=str(error))
