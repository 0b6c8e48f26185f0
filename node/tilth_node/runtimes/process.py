"""Plain processes (grade D): for the node's own reviewed code, where nothing better runs.

Holds: time, memory, processor time and file size of the step's process, a bounded log, declared and
bounded outputs. Does not hold: files, network, other processes. So every archive of a step must be
among the reviewed ones; other organizations' code is refused unless the operator said otherwise
(`EVERYTHING`, the node's `--allow-unisolated`).
"""

import asyncio
import contextlib
import os
import resource
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tilth_ledger.canonical import dumps
from tilth_ledger.steps import EXIT_CODES, Reason, Source, StepLimits
from tilth_node.runtimes import (
    Check,
    Environment,
    Handle,
    NodeFault,
    StepResult,
    StepSpec,
    Usage,
    adoption,
    hostpython,
    outputs,
)
from tilth_node.runtimes.boundedlog import BoundedLog

_CHUNK: Final = 1 << 16


class _Everything:
    def __contains__(self, digest: object) -> bool:
        return True


EVERYTHING: Final[Container[str]] = _Everything()


@dataclass
class _Run:
    spec: StepSpec
    root: Path
    process: asyncio.subprocess.Process | None = None
    started: float = 0.0
    canceled: bool = False


class Processes:
    """The `Runtime` without isolation. `reviewed`: digests of archives that may run."""

    name = "process"
    grade = "D"
    cpus = 0.0

    def __init__(self, reviewed: Container[str]) -> None:
        self._reviewed = reviewed
        self._runs: dict[str, _Run] = {}

    async def stated(self) -> list[Check]:
        """Nothing: all is tried."""
        return []

    async def offer(self, environment: Environment) -> None:
        """The environment is what this Python has installed."""
        hostpython.check(environment)

    async def stage(self, spec: StepSpec) -> Handle:
        """Lay the step's folders out; refuses archives that nobody here reviewed."""
        for folder in spec.step.folders:
            if folder.source is Source.ARCHIVE and folder.digest not in self._reviewed:
                raise NodeFault(
                    "this node has no isolation and the code was not reviewed here",
                    found=f"{folder.path} {folder.digest[:12]}",
                    expected="the sandbox or an engine",
                    remedy="run `tilth node doctor`; or start the node with --allow-unisolated",
                )
        root = Path(tempfile.mkdtemp(prefix="tilth-step-"))
        for path, content in {"task.json": dumps(dict(spec.step.task_json)), **spec.files}.items():
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
        for mount in spec.mounts:
            (root / mount.target).symlink_to(mount.source)
        handle = Handle(secrets.token_hex(8), self.name, {"root": str(root)})
        self._runs[handle.id] = _Run(spec, root)
        return handle

    async def start(self, handle: Handle) -> None:
        """Start the process."""
        run = self._runs[handle.id]
        host = hostpython.layout()
        run.started = time.monotonic()
        run.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-m", "tilth.algorithm", str(run.root)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=host["environment"],
            cwd=run.root,
            start_new_session=True,
        )
        _limit(run.process.pid, run.spec.step.limits)

    async def collect(self, handle: Handle) -> StepResult:
        """Wait for the end; outputs are below `spec.collect`."""
        run = self._runs[handle.id]
        limits = run.spec.step.limits
        log = BoundedLog(limits.log_bytes)
        reason: Reason | None = None
        process = _started(run)
        try:
            async with asyncio.timeout(limits.wall_ms / 1_000):
                await _read(process, log)
        except TimeoutError:
            reason = Reason.TIME
        _kill_group(process.pid)
        status = await process.wait()
        del self._runs[handle.id]
        reason = Reason.CANCELED if run.canceled else reason or _reason(status)
        found = outputs.Found()
        if reason is None:
            declared = [
                {"path": o.path, "required": o.required, "max_bytes": o.max_bytes}
                for o in run.spec.step.outputs
            ]
            found = outputs.look(str(run.root), declared, limits.output_files)
            reason = Reason(found.reason) if found.reason else None
        for file in found.files:
            target = run.spec.collect / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(run.root / file.path, target)
        shutil.rmtree(run.root)
        made = {o.path: run.spec.collect / o.path for o in run.spec.step.outputs}
        return StepResult(
            exit=status,
            reason=reason,
            detail=found.detail,
            outputs={p: f for p, f in made.items() if f.exists() and not reason},
            log=log.text(),
            log_cut_bytes=log.cut_bytes,
            usage=Usage(
                wall_ms=int(1_000 * (time.monotonic() - run.started)),
                output_bytes=sum(file.size for file in found.files),
            ),
            warm=False,
            grade=self.grade,
            runtime=self.name,
            killed=reason is Reason.EXIT and status == -signal.SIGKILL,
        )

    async def cancel(self, handle: Handle) -> None:
        """End the step; `collect` then says canceled."""
        if (run := self._runs.get(handle.id)) and run.process:
            run.canceled = True
            _kill_group(run.process.pid)

    async def attach(self, journaled: str) -> Handle | None:
        """A step of an earlier life is ended, if it is still there, and its folder removed."""
        facts = Handle.from_json(journaled).facts
        await adoption.end_leftovers(facts)
        shutil.rmtree(facts["root"], ignore_errors=True)
        return None

    async def forget(self, plan: str) -> None:
        """Nothing is kept warm."""

    async def close(self) -> None:
        """End all steps."""
        for run in self._runs.values():
            if run.process:
                _kill_group(run.process.pid)


def _started(run: _Run) -> asyncio.subprocess.Process:
    if run.process is None:
        raise NodeFault("a step was collected before it was started")
    return run.process


async def _read(process: asyncio.subprocess.Process, log: BoundedLog) -> None:
    """Take the log until the process ends, whoever else still holds the pipe."""
    assert process.stdout is not None  # noqa: S101  it was opened as a pipe
    while data := await process.stdout.read(_CHUNK):
        log.add(data)
    await process.wait()


def _limit(pid: int, limits: StepLimits) -> None:
    seconds = -(-limits.cpu_ms // 1_000)
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
        resource.prlimit(pid, resource.RLIMIT_CPU, (seconds, seconds + 1))
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (limits.scratch_bytes, limits.scratch_bytes))
        resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _reason(status: int) -> Reason | None:
    if status == 0:
        return None
    codes = {code: reason for reason, code in EXIT_CODES.items()}
    signals = {-24: Reason.TIME, -25: Reason.TOO_LARGE}
    return signals.get(status) or codes.get(status, Reason.EXIT)
