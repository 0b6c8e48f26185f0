"""The built-in Linux sandbox (grade B): no engine, nothing but the kernel and CPython.

What holds: own user, mount, net, ipc, uts and pid namespaces; a read-only root of its own; no
capabilities, no new privileges; a system call filter; Landlock; limits of memory, processor time,
processes, open files and disk; wall time; bounded log and outputs.
What does not (why it is B): the memory of all processes of a step together is bounded only by
processes x memory; the host's /usr and Python are visible; the kernel is shared.

Invariants
- `stage` starts the isolation, which runs no user code before `start`: the journaled handle names
  real processes.
- An isolation that did not end a step cleanly is never used again.
- The time limit holds twice: inside (pid 1), and here with a grace, should the inside be stuck.
"""

import asyncio
import itertools
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tilth_ledger.canonical import dumps
from tilth_ledger.frames import Bounds
from tilth_ledger.steps import EXIT_CODES, Reason
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
)
from tilth_node.runtimes.isolated import Answer, Isolated
from tilth_node.runtimes.warm import Key, Pool

_GRACE_S: Final = 5.0  # for gathering outputs after the time limit inside has passed
_SPARE_PROCESSES: Final = 2  # pid 1 and the zygote count as the step's user too
_WARM_FILE_BYTES: Final = 64 << 20  # larger inputs are mounted, in an isolation of their own
_SIGNALS: Final[Mapping[int, Reason]] = {
    -9: Reason.OUT_OF_MEMORY,  # nothing else in there kills a step that is within its time
    -24: Reason.TIME,
    -25: Reason.TOO_LARGE,
}


@dataclass
class _Run:
    """One staged step."""

    spec: StepSpec
    key: Key
    isolation: Isolated
    canceled: bool = False


class Sandbox:
    """The `Runtime` of the node's own machine."""

    name = "sandbox"
    grade = "B"
    cpus = 0.0

    def __init__(self, warm_runners: int = 8) -> None:
        self._pool = Pool(warm_runners)
        self._runs: dict[str, _Run] = {}
        self._layout = hostpython.layout()
        hostpython.compile_packages()

    async def stated(self) -> list[Check]:
        """Nothing: all is tried."""
        return []

    async def offer(self, environment: Environment) -> None:
        """The environment is what this Python has installed."""
        hostpython.check(environment)

    async def stage(self, spec: StepSpec) -> Handle:
        """An isolation for the step, warm if one waits; nothing of the step runs yet."""
        key: Key = (*spec.step.warm_key, tuple((str(m.source), m.target) for m in spec.mounts))
        isolation = None if _needs_its_own(spec) else self._pool.take(key)
        if isolation is None:
            isolation = await Isolated.start(self._facts(spec))
        handle = Handle(secrets.token_hex(8), self.name, adoption.facts_of(isolation))
        self._runs[handle.id] = _Run(spec, key, isolation)
        return handle

    async def start(self, handle: Handle) -> None:
        """Send the step's files and let it run."""
        run = self._runs[handle.id]
        step = run.spec.step
        files = {"task.json": dumps(dict(step.task_json)), **run.spec.files}
        mounted = _mounted_files(run.spec)
        await run.isolation.give(
            {path: content for path, content in files.items() if path not in mounted},
            {
                "wall_ms": step.limits.wall_ms,
                "log_bytes": step.limits.log_bytes,
                "output_files": step.limits.output_files,
                "outputs": [
                    {"path": o.path, "required": o.required, "max_bytes": o.max_bytes}
                    for o in step.outputs
                ],
                "seed": step.task_json.get("seed", 0),
                "limits": {
                    "memory_bytes": step.limits.memory_bytes,
                    "cpu_ms": step.limits.cpu_ms,
                    "processes": step.limits.processes + _SPARE_PROCESSES,
                    "open_files": step.limits.open_files,
                    "file_bytes": step.limits.scratch_bytes,
                },
            },
        )

    async def collect(self, handle: Handle) -> StepResult:
        """Wait for the end; outputs are below `spec.collect`."""
        run = self._runs[handle.id]
        limits = run.spec.step.limits
        warm = run.isolation.steps > 1
        declared = run.spec.step.outputs
        bounds = Bounds(
            files=limits.output_files + 1,
            total_bytes=sum(o.max_bytes for o in declared) + 2 * limits.log_bytes + 4_096,
        )
        answer = None
        try:
            async with asyncio.timeout(limits.wall_ms / 1_000 + _GRACE_S):
                answer = await run.isolation.answer(
                    run.spec.collect, [o.path for o in declared], bounds
                )
        except TimeoutError:
            answer = Answer({"reason": "time", "detail": "the isolation did not answer"}, b"", 0)
        except NodeFault:
            if not run.canceled:
                raise
            answer = Answer({"reason": "canceled", "detail": "canceled"}, b"", 0)
        finally:
            del self._runs[handle.id]
            if answer is None:
                await run.isolation.end()
        await self._keep_or_end(run, answer)
        return self._result(run, answer, warm)

    async def cancel(self, handle: Handle) -> None:
        """End the step with all it started; `collect` then says canceled."""
        if run := self._runs.get(handle.id):
            run.canceled = True
            await run.isolation.end()

    async def attach(self, journaled: str) -> Handle | None:
        """An isolation dies with its node; what might be left of one is ended here."""
        await adoption.end_leftovers(Handle.from_json(journaled).facts)
        return None

    async def close(self) -> None:
        """End all isolations."""
        running = [run.isolation for run in self._runs.values()]
        await asyncio.gather(*(i.end() for i in itertools.chain(self._pool.clear(), running)))

    async def forget(self, plan: str) -> None:
        """End the warm runners of a plan that has ended."""
        await asyncio.gather(*(i.end() for i in self._pool.drop(plan)))

    async def _keep_or_end(self, run: _Run, answer: Answer) -> None:
        ended = [run.isolation]
        if answer.facts.get("reusable") and not _needs_its_own(run.spec):
            ended = self._pool.give(run.key, run.isolation)
        await asyncio.gather(*(isolation.end() for isolation in ended))

    def _facts(self, spec: StepSpec) -> dict[str, Any]:
        volumes = [(str(m.source), m.target) for m in spec.mounts]
        volumes += [(str(source), path) for path, source in _mounted_files(spec).items()]
        return {
            **self._layout,
            "volumes": volumes,
            "scratch_bytes": spec.step.limits.scratch_bytes,
        }

    def _result(self, run: _Run, answer: Answer, warm: bool) -> StepResult:
        facts = answer.facts
        reason = _reason(facts, run.spec.step.limits.cpu_ms)
        found = {o.path: run.spec.collect / o.path for o in run.spec.step.outputs}
        return StepResult(
            exit=facts.get("status"),
            reason=reason,
            detail=str(facts.get("detail", ""))[:400],
            outputs={} if reason else {p: f for p, f in found.items() if os.path.lexists(f)},
            log=answer.log,
            log_cut_bytes=int(facts.get("log_cut_bytes", 0)),
            usage=Usage(
                wall_ms=int(facts.get("wall_ms", 0)),
                cpu_ms=int(facts.get("cpu_ms", 0)),
                peak_memory_bytes=int(facts.get("peak_memory_bytes", 0)),
                output_bytes=answer.output_bytes,
            ),
            warm=warm,
            grade=self.grade,
            runtime=self.name,
            killed=reason is Reason.OUT_OF_MEMORY and facts.get("status") == -9,
        )


def _reason(facts: Mapping[str, Any], cpu_limit_ms: int) -> Reason | None:
    """Why a step failed; None when it succeeded."""
    if named := facts.get("reason"):
        return Reason(named)
    status = facts["status"]
    if status == 0:
        return None
    if status == -9 and facts.get("cpu_ms", 0) >= cpu_limit_ms:
        return Reason.TIME  # it ignored the signal that came a second before
    codes = {code: reason for reason, code in EXIT_CODES.items()}
    return _SIGNALS.get(status) or codes.get(status, Reason.EXIT)


def _needs_its_own(spec: StepSpec) -> bool:
    return spec.step.strict or bool(_mounted_files(spec))


def _mounted_files(spec: StepSpec) -> dict[str, Path]:
    """Input files too large to be sent through the pipe."""
    paths = {path: f for path, f in spec.files.items() if isinstance(f, Path)}
    return {path: f for path, f in paths.items() if f.stat().st_size > _WARM_FILE_BYTES}
