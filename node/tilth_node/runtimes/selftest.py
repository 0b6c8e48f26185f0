"""The self-test: what a runtime really holds on this machine, found by trying to break it.

    checks = await doctor(Sandbox())      # `tilth node doctor`
    grade_of(checks)                      # what a receipt may claim

Invariants
- Nothing is assumed from versions or settings: each line was tried a moment ago by a step that ran
  like any other.
- A check that fails lowers the grade to what is still true without it; a runtime that cannot run a
  step at all has grade D.
"""

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from tilth_ledger.steps import CONTRACT, Kind, Output, Reason, Step, StepLimits
from tilth_node.runtimes import (
    Check,
    Mount,
    NodeFault,
    Runtime,
    StepResult,
    StepSpec,
    escapes,
    overuse,
)
from tilth_node.runtimes.enginefacts import MEMORY
from tilth_node.runtimes.hostpython import layout

MIB: Final = 1 << 20
_LIMITS: Final = StepLimits(
    wall_ms=300_000,  # what a busy machine does in its own time holds no less
    cpu_ms=20_000,
    memory_bytes=512 * MIB,
    processes=24,
    scratch_bytes=24 * MIB,
    output_bytes=4 * MIB,
    log_bytes=64 << 10,
)
_FINDINGS: Final = Output("findings.json", True, 1 * MIB)
# What is left without each wall: C keeps files and calls apart, D nothing that counts.
_GRADE_WITHOUT: Final = {
    "see_host_processes": "C",
    "signal_node": "C",
    "signal_parent": "C",
    "signal_first": "C",
    "fork_without_end": "C",
    "fill_memory": "C",
    "fill_disk": "C",
    "share_memory_for_ever": "C",
    "keep_rights": "C",
    "run_what_it_wrote": "B",
    "raise_limits": "C",
    "open_files_without_end": "C",
    "make_a_huge_file": "C",
    "take_more_processors": "B",
    "be_spared": "B",
}
_LEAVE: Final = """\
import os, json
root = os.environ["TILTH_TASK"]
marks = [f"{root}/mark", "/dev/shm/tilth-mark", f"{root}/local/mark", f"{root}/out/mark"]
found = [path for path in marks if os.path.exists(path)]
for path in marks:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    open(path, "w").close()
json.dump({"found": found}, open(f"{root}/findings.json", "w"))
"""
_SLEEP: Final = "import time\ntime.sleep(600)\n"
_TALK: Final = "import os\nfor _ in range(1 << 10):\n    os.write(1, b'x' * 65536)\n"
_LINK: Final = (
    "import os\nos.symlink('/proc/1/environ', f'{os.environ[\"TILTH_TASK\"]}/findings.json')\n"
)
_SILENT: Final = "pass\n"
_HOARD: Final = """\
import os, time
children = []
for _ in range(3):
    child = os.fork()
    if not child:
        hoard = bytearray(os.urandom(1 << 20)) * 300
        time.sleep(60)
    children.append(child)
_, status = os.wait()
if os.WIFSIGNALED(status):
    os.killpg(os.getpgrp(), 9)
"""


def grade_of(checks: Sequence[Check]) -> str:
    """The grade that these checks leave: A is best, D means no isolation that counts.

    A needs proof that a step's processes together stay within its memory."""
    best = "A" if any(check.name == _TOGETHER and check.holds for check in checks) else "B"
    return max([best, *(check.grade for check in checks if not check.holds)])


async def proof(runtime: Runtime) -> list[Check]:
    """What decides the grade, for a node that starts to work. On an engine, where each attempt is
    a container of its own, that is less than `doctor` tries."""
    if runtime.name != _ENGINE:
        return await doctor(runtime)
    async with _bench(runtime) as bench:
        told = await runtime.stated()
        tried, held = await asyncio.gather(_escapes(bench), _memory_of_all(bench, told))
    await runtime.forget("leave")
    return [*told, *tried, *held]


async def doctor(runtime: Runtime) -> list[Check]:
    """Try everything; one check per attempt. A runtime without isolation is not attacked: what it
    does not hold would be tried on the host itself."""
    if runtime.grade == "D":
        return [Check("steps are isolated", False, f"{runtime.name} isolates nothing", "D")]
    async with _bench(runtime) as bench:
        try:
            told = await runtime.stated()
            checks = told + await _escapes(bench)
        except NodeFault as fault:
            return [Check("an isolation starts", False, str(fault), "D")]
        checks += [Check("an isolation starts", True, f"{runtime.name} runs steps", "D")]
        more = [_leftovers(bench), *(_ends_as(bench, *expected) for expected in _ENDINGS)]
        ended, held = await asyncio.gather(asyncio.gather(*more), _memory_of_all(bench, told))
        checks += [*ended, *held]
    await runtime.forget("leave")
    return checks


# What must become of a step that misbehaves: name, its code, the reason it is failed with.
_ENDINGS: Final = (
    ("a step that hangs is ended", _SLEEP, Reason.TIME),
    ("a link as output is refused", _LINK, Reason.WRONG_SHAPE),
    ("a step without output fails", _SILENT, Reason.MISSING_OUTPUT),
    ("a log of 64 MiB is cut", _TALK, Reason.MISSING_OUTPUT),
)
_TOGETHER: Final = "all processes together stay within the memory limit"
_TELLS: Final = "the engine tells when memory ran out"
_KILLED: Final = -9
# What grade B does not claim: a step's own files run, processors are not shared out, and the order
# in which the kernel takes memory back is Landlock's to keep.
_OF_ENGINES_ALONE: Final = ("run_what_it_wrote", "take_more_processors", "be_spared")
# In a container these aim at nothing: its image has accounts and homes of its own, and the node's
# process number means nothing in its namespace. What they stand for, other attempts try.
_ENGINE: Final = "docker"
_AIMLESS_IN_ENGINES: Final = ("read_accounts", "list_home", "signal_node")


@dataclass(frozen=True, slots=True)
class _Bench:
    """A folder and a runtime to try things in."""

    runtime: Runtime
    folder: Path

    async def run(self, code: str, aim: dict[str, Any], wall_ms: int, key: str) -> StepResult:
        """Run a piece of Python as a step of a plan `key`."""
        archive = self._archive(code)
        collect = Path(tempfile.mkdtemp(dir=self.folder))
        step = _step(replace(_LIMITS, wall_ms=wall_ms), key)
        files = {"attempts.json": json.dumps(aim).encode()}
        handle = await self.runtime.stage(StepSpec(step, collect, (Mount(archive, "code"),), files))
        await self.runtime.start(handle)
        return await self.runtime.collect(handle)

    def _archive(self, code: str) -> Path:
        folder = self.folder / f"code-{hash(code) & 0xFFFFFFFF:x}"
        folder.mkdir(exist_ok=True)
        own = "python" if self.runtime.name == _ENGINE else layout()["python"]
        python = json.dumps(own)
        (folder / "attempt.py").write_text(code, encoding="utf-8")
        shutil.copyfile(overuse.__file__, folder / "overuse.py")
        (folder / "tilth.toml").write_text(
            f'format = "tilth-1"\nname = "self-test"\n'
            f'[commands]\ninit = [{python}, "-I", "attempt.py"]\n',
            encoding="utf-8",
        )
        return folder


@contextlib.asynccontextmanager
async def _bench(runtime: Runtime) -> AsyncIterator[_Bench]:
    with tempfile.TemporaryDirectory(prefix="tilth-doctor-") as name:
        os.chmod(name, 0o755)  # noqa: S103  a node that is root runs steps as another user
        yield _Bench(runtime, Path(name))


async def _escapes(bench: _Bench) -> list[Check]:
    secret = bench.folder / "secret"
    secret.write_text("a file of the host", encoding="utf-8")
    name = f"tilth-{secrets.token_hex(8)}"
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as unix:
        unix.bind("\0" + name)
        unix.listen()
        home = os.path.expanduser("~")
        aim = {
            "secret": str(secret),
            "home": home,
            "visible_in_home": _ways_to(home),
            "port": server.getsockname()[1],
            "socket": name,
            "node": os.getpid(),
            "memory_bytes": _LIMITS.memory_bytes,
            "scratch_bytes": _LIMITS.scratch_bytes,
            "processes": _LIMITS.processes,
            "open_files": _LIMITS.open_files,
            "cpus": bench.runtime.cpus,
        }
        code = Path(escapes.__file__).read_text(encoding="utf-8")
        result = await bench.run(code, aim, _LIMITS.wall_ms, "escapes")
    if result.reason:
        words = result.log.decode(errors="replace")[-300:]
        return [Check("the attempts ran", False, f"{result.reason}: {result.detail} {words}", "D")]
    on_engine = bench.runtime.name == _ENGINE
    findings = json.loads((bench.folder / result.outputs[_FINDINGS.path]).read_bytes())
    return [
        Check(attempt.replace("_", " "), stopped, words, _GRADE_WITHOUT.get(attempt, "D"))
        for attempt, (stopped, words) in findings.items()
        if attempt not in (_AIMLESS_IN_ENGINES if on_engine else _OF_ENGINES_ALONE)
    ]


async def _memory_of_all(bench: _Bench, told: Sequence[Check]) -> list[Check]:
    """Do a step's processes together stay within its memory, and is that said? Where the engine
    admits that nothing bounds them, the machine's memory is not tried."""
    if bench.runtime.name != _ENGINE:
        return []  # grade B does not claim it
    if any(check.name == MEMORY and not check.holds for check in told):
        return [Check(_TOGETHER, False, "not tried: the engine says that nothing bounds it", "C")]
    result = await bench.run(_HOARD, {}, _LIMITS.wall_ms, _TOGETHER)
    said = result.reason is Reason.OUT_OF_MEMORY
    killed = said or (result.reason is Reason.EXIT and result.exit == _KILLED)
    words = "a kill for want of memory looks like any other" if killed and not said else ""
    return [
        Check(_TOGETHER, killed, f"{result.reason}", "C"),
        *([Check(_TELLS, said, words or "it does", "B")] if killed else []),
    ]


async def _leftovers(bench: _Bench) -> Check:
    """Two steps that may share a runner: the second looks for what the first left."""
    name = "nothing of a step reaches the next"
    await bench.run(_LEAVE, {}, _LIMITS.wall_ms, "leave")
    second = await bench.run(_LEAVE, {}, _LIMITS.wall_ms, "leave")
    if second.reason:
        return Check(name, False, f"{second.reason}: {second.detail}", "C")
    found = json.loads(second.outputs[_FINDINGS.path].read_bytes())["found"]
    mode = "in a warm runner" if second.warm else "in isolations of their own"
    return Check(name, not found, ", ".join(found) or mode, "C")


async def _ends_as(bench: _Bench, name: str, code: str, reason: Reason) -> Check:
    result = await bench.run(code, {}, 700 if reason is Reason.TIME else _LIMITS.wall_ms, name)
    bounded = len(result.log) <= _LIMITS.log_bytes + 100
    return Check(name, result.reason is reason and bounded, f"{result.reason}", "C")


def _step(limits: StepLimits, key: str) -> Step:
    return Step(
        name="init",
        kind=Kind.INIT,
        folders=(),
        outputs=(_FINDINGS,),
        limits=limits,
        task_json={
            "contract": CONTRACT,
            "step": "init",
            "kind": "init",
            "plan": key,
            "task": key,
            "rank": 0,
            "organization": "self-test",
            "parameters": {},
            "seed": 0,
            "inputs": [],
            "outputs": [],
            "selection": {},
            "features": "files",
            "metric": {},
        },
        environment="",
        strict=False,
        warm_key=(key,),
    )


def _ways_to(home: str) -> list[str]:
    """Names in the home folder on the way to what is bound on purpose (Python, packages)."""
    below = [target for _, target in layout()["binds"] if target.startswith(f"{home}/")]
    return [path.removeprefix(f"{home}/").split("/")[0] for path in below]
