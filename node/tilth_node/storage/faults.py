"""What a failing disk means for the worker's tables: this node cannot do it now.

The ledger's own store stops the process instead: see `tilth_node.storage.ledger_store`.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from tilth_ledger.errors import Unavailable


@contextmanager
def as_unavailable() -> Iterator[None]:
    """Turn an error of the disk below SQLite into Unavailable: nothing was written, so the same
    may be tried again."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise Unavailable(
            "the worker's database cannot be written",
            found=error,
            remedy="free some space on the node's disk; the task goes on by itself",
        ) from error
