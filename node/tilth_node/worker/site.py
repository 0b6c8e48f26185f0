"""What a worker stands on: one node's stores, its connection to the ledger, its runtime.

A value that is handed down, so that no module of the worker knows how a node is assembled.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tilth_ledger.keys import SigningKey
from tilth_ledger.leaf import write_entry
from tilth_ledger.limits import Limits
from tilth_ledger.rows import Rows
from tilth_ledger.steps import StepLimits
from tilth_node.clock import Clock
from tilth_node.runtimes import Runtime
from tilth_node.storage.desk import Desk
from tilth_node.storage.folders import Folders
from tilth_node.storage.vault import Vault
from tilth_node.worker.blobs import Blobs
from tilth_node.worker.leftovers import Leftovers
from tilth_node.worker.staging import Stage

NONCE_BYTES = 16


@dataclass(frozen=True, slots=True)
class Site:
    """One node, as its worker sees it."""

    organization: str
    net: str
    limits: Limits
    signer: Callable[[], SigningKey]  # the key that the ledger lists for this node now
    rows: Rows
    submit: Callable[[bytes], Awaitable[object]]
    ledger_ms: Callable[[], int]  # ledger time: what expires, expires by it
    clock: Clock
    vault: Vault
    desk: Desk
    folders: Folders
    stage: Stage
    blobs: Blobs
    runtime: Runtime
    leftovers: Leftovers
    allowance: StepLimits
    scratch: Path  # runs collect here, on the vault's disk; emptied at start
    features: Path  # exported features, by what they were made from

    def sign(self, operation: Mapping[str, Any]) -> bytes:
        """A signed entry that holds one operation, as the bytes to submit."""
        nonce = self.clock.random(NONCE_BYTES).hex()
        leaf = write_entry(self.net, self.organization, self.signer(), nonce, (dict(operation),))
        return leaf.encode()
