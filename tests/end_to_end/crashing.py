"""Runs `tilth` in this process and lets its durable steps go wrong: a launcher of tests only.

    CRASH_AT=7 CRASH_WHEN=before python crashing.py node run FOLDER   # kill at the 7th step
    FAIL_IF=some/file python crashing.py node run FOLDER              # a disk that breaks

Durable steps are fsync, fdatasync, rename and SQLite's commit, counted from the start of the
process. `before`: the step is not taken; `after`: it is, and nothing else; the kill is SIGKILL, so
no handler and no buffer helps. With FAIL_IF every step fails with EIO once that file exists.
"""

import errno
import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from typing import Any

from tilth.cli import main

AT = int(os.environ.get("CRASH_AT", "0"))
BEFORE = os.environ.get("CRASH_WHEN") == "before"
BROKEN = os.environ.get("FAIL_IF", "")
taken = 0


def step(action: Callable[..., Any]) -> Callable[..., Any]:
    """The same action, counted."""

    def counted(*values: Any, **named: Any) -> Any:
        global taken
        taken += 1
        if BROKEN and os.path.exists(BROKEN):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if taken == AT and BEFORE:
            os.kill(os.getpid(), signal.SIGKILL)
        result = action(*values, **named)
        if taken == AT:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return counted


def counting(kind: type[sqlite3.Connection]) -> type[sqlite3.Connection]:
    """The same kind of connection, with its commits counted."""

    class Connection(kind):  # type: ignore[misc, valid-type]
        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            if sql == "COMMIT":
                try:
                    return step(super().execute)(sql)  # type: ignore[no-any-return]
                except OSError as error:
                    raise sqlite3.OperationalError("disk I/O error") from error
            return super().execute(sql, *values)

    return Connection


def connect(
    *values: Any, factory: type[sqlite3.Connection] = sqlite3.Connection, **named: Any
) -> sqlite3.Connection:
    return original_connect(*values, factory=counting(factory), **named)


original_connect = sqlite3.connect
sqlite3.connect = connect  # type: ignore[assignment]
for name in ("fsync", "fdatasync", "replace", "rename"):
    setattr(os, name, step(getattr(os, name)))

sys.exit(main())
