"""Small blobs at every node with the right, so that one lost site blocks no audit.

Invariants
- Archives, descriptions and reports of up to 16 MiB are fetched as soon as the entry that names
  them is final and this node may have them. Models, logs, predictions and
  images stay where they are.
- Work on tasks goes first: at most a few fetches at a time, and what cannot be had now is tried
  when this node hears of it again or starts again.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from tilth_ledger.errors import InvalidInput, PeerFault, Refused, Unavailable
from tilth_ledger.permissions import may_read_blob
from tilth_ledger.rows import Rows
from tilth_node.feed import Changes
from tilth_node.storage.vault import Vault
from tilth_node.worker.blobs import Blobs
from tilth_node.worker.holders import wanted
from tilth_node.worker.patience import wait

SMALL_BYTES = 16 << 20
STAYS = ("model", "log", "predictions", "image")
AT_A_TIME = 2
TRIES = 6
FIRST_PAUSE_SECONDS = 0.5


class Replicas:
    """Fetches for `organization` what small blobs it should hold."""

    def __init__(
        self,
        organization: str,
        rows: Rows,
        vault: Vault,
        blobs: Blobs,
        subscribe: Callable[[Sequence[str]], AsyncIterator[Changes]],
    ) -> None:
        self._organization, self._rows, self._vault = organization, rows, vault
        self._blobs, self._subscribe = blobs, subscribe
        self._places = asyncio.Semaphore(AT_A_TIME)
        self._fetching: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Follow the ledger until cancelled."""
        try:
            async for changes in self._subscribe(("blob/",)):
                for key, value in changes.rows.items():
                    _, digest, what = key.split("/")[:3]
                    if value is not None and what not in STAYS:
                        self._consider(digest)
        finally:
            for task in self._fetching.values():
                task.cancel()

    def _consider(self, digest: str) -> None:
        if digest in self._fetching or self._vault.has(digest):
            return
        task = asyncio.create_task(self._fetch(digest), name=f"replicate {digest[:12]}")
        self._fetching[digest] = task
        task.add_done_callback(lambda _: self._fetching.pop(digest))

    async def _fetch(self, digest: str) -> None:
        pause = FIRST_PAUSE_SECONDS
        for _ in range(TRIES):
            try:
                may_read_blob(self._rows, digest, self._organization)
                async with self._places:
                    await self._blobs.ensure(wanted(self._rows, digest, SMALL_BYTES))
            except (Refused, InvalidInput):
                return  # not for this node, or not small
            except (Unavailable, PeerFault, OSError):
                await wait(pause)
                pause *= 3
            else:
                return
