"""`tilth node doctor FOLDER`: does this node have what it needs, and what does its isolation hold.

- Each finding says what was looked at, what was found and what to do; nothing is changed.
- The isolation is not believed but tried: the self-test runs code that attempts to escape
  (`tilth_node.runtimes.selftest`), and the grade is what is left.
- Works beside a running node: it reads files and starts an isolation of its own.
"""

import os
import stat
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cryptography import x509

from tilth_ledger.errors import InvalidInput
from tilth_node import keystore
from tilth_node.clock import Clock
from tilth_node.config import Config
from tilth_node.folder import Folder
from tilth_node.runtimes import selftest
from tilth_node.runtimes.engine import ABSENT, NoEngine, trouble
from tilth_node.storage.ledger_store import peek
from tilth_node.storage.vault import FLOOR_BYTES, free_bytes
from tilth_node.worker.isolation import NO_ISOLATION, open_runtime

AUTHORITY_WARNING = timedelta(days=180)
CLOCK_TOLERANCE_MS = 5_000
EARLIEST_MS = 1_760_000_000_000  # this software is younger than a clock that shows less


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    name: str
    holds: bool
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{'ok  ' if self.holds else 'FAIL'}  {self.name}: {self.found}"
        return line if self.holds or not self.remedy else f"{line}\n      {self.remedy}"

    def as_dict(self) -> dict[str, object]:
        facts = {"name": self.name, "holds": self.holds, "found": self.found}
        return facts if self.holds or not self.remedy else {**facts, "remedy": self.remedy}


def examine(settings: Config, clock: Clock) -> list[Finding]:
    """Everything but the isolation."""
    folder = Folder(settings.folder)
    return [
        _disk(settings.folder),
        *(_data_root(root) for root in settings.data_roots),
        _keys(folder),
        _authority(folder, clock),
        _clock(folder, clock),
    ]


async def isolation(settings: Config) -> tuple[str, list[Finding]]:
    """The grade that the runtime of this node really has, and each attempt to escape."""
    first = [engine(settings)] if settings.runtime in ("auto", "docker") else []
    if settings.runtime == "docker" and not all(each.holds for each in first):
        return NO_ISOLATION, first
    runtime = open_runtime(settings, passing=True)
    try:
        checks = await selftest.doctor(runtime)
    finally:
        await runtime.close()
    remedy = "tasks run with this grade at best: {}; an engine or a newer kernel may hold it"
    found = [Finding(c.name, c.holds, c.detail, remedy.format(c.grade)) for c in checks]
    return selftest.grade_of(checks), first + found


def engine(settings: Config) -> Finding:
    """Why an engine is not used. A node that may choose is well without one, or with one that lacks
    the image of tasks; an engine that was named and is not there, or that refuses, is a fault."""
    fault = trouble(settings.engine_address, settings.engine_base)
    if fault is None:
        return Finding("container engine", True, "used")
    if settings.runtime == "docker":
        found = f"{fault.message}, so tasks wait: {fault.found}"
        return Finding("container engine", False, found, fault.remedy)
    found = f"{fault.message}, so the sandbox is used: {fault.found}"
    if isinstance(fault, NoEngine):
        return Finding("container engine", True, found)
    if fault.status == ABSENT:
        return Finding("container engine", True, f"{found}; {fault.remedy}")
    return Finding("container engine", False, found, fault.remedy)


def _disk(folder: Path) -> Finding:
    free = free_bytes(folder)
    return Finding(
        "disk",
        free > 2 * FLOOR_BYTES,
        f"{free >> 20} MiB free, {FLOOR_BYTES >> 20} MiB of it kept for the ledger",
        "free some space: tasks wait when only the ledger's reserve is left",
    )


def _data_root(root: Path) -> Finding:
    name = f"data root {root}"
    remedy = "correct [data] roots in node.toml, or give the node's user the right to read"
    if not root.is_absolute() or not root.is_dir():
        return Finding(name, False, "no such folder, or not an absolute path", remedy)
    readable = os.access(root, os.R_OK | os.X_OK)
    return Finding(name, readable, "readable" if readable else "not readable", remedy)


def _keys(folder: Folder) -> Finding:
    remedy = "only the node's user may read the keys: chmod -R go= FOLDER/keys; else replace them"
    try:
        keystore.load(folder.keys)
    except InvalidInput as error:
        return Finding("keys", False, str(error), remedy)
    mode = stat.S_IMODE(folder.keys.stat().st_mode)
    return Finding("keys", not mode & 0o077, f"readable, folder mode {mode:04o}", remedy)


def _authority(folder: Folder, clock: Clock) -> Finding:
    """The organization's TLS authority; certificates below it renew themselves every day."""
    try:
        certificate = x509.load_pem_x509_certificate(
            (folder.keys / keystore.AUTHORITY).read_bytes()
        )
    except (OSError, ValueError) as error:
        return Finding("TLS authority", False, str(error), "restore keys/ from its backup")
    left = certificate.not_valid_after_utc - clock.utc()
    return Finding(
        "TLS authority",
        left > AUTHORITY_WARNING,
        f"valid for {left.days} days, certificates renew themselves",
        "agree on a new authority with the consortium in time",
    )


def _clock(folder: Folder, clock: Clock) -> Finding:
    """The wall clock against the last block's time, which other members agreed on."""
    remedy = "let the machine follow a time server (NTP)"
    now = clock.wall_ms()
    if now < EARLIEST_MS:
        return Finding("clock", False, f"shows {clock.utc():%Y-%m-%d}", remedy)
    last = _last_block_ms(folder)
    behind = last is not None and last > now + CLOCK_TOLERANCE_MS
    found = "plausible; no block to compare with" if last is None else f"last block {last} ms"
    return Finding("clock", not behind, f"{found}, now {now} ms" if last else found, remedy)


def _last_block_ms(folder: Folder) -> int | None:
    header = peek(folder.database) if folder.database.exists() else None
    return None if header is None else header.time_ms
