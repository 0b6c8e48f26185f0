"""What isolates a step of a task: one interface, several runtimes.

    handle = await runtime.stage(spec)      # nothing runs yet; journal handle.to_json()
    await runtime.start(handle)
    result = await runtime.collect(handle)  # waits for the end
    after a crash: await runtime.attach(journaled text) -> a Handle, or None: nothing of it is left
                   collect it if its `made_from` is `spec.made_from`, else cancel it

Invariants
- A step sees its folders, its limits and nothing else; what that means is the runtime's *grade*.
- `collect` always returns a StepResult: whatever user code does is a `Reason`, never an exception.
  Exceptions (`NodeFault`) are this machine's own trouble and are retried by the worker.
- Only declared outputs are collected, each within its limit, as regular files, into `spec.collect`.
- After `attach` returned None no process of the handle is alive.

Left to others: filling folders, journaling handles, receipts (worker); task -> steps
(`tilth_ledger.steps`).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tilth_ledger.errors import TilthError
from tilth_ledger.steps import Reason, Step

__all__ = [
    "Check",
    "Environment",
    "EnvironmentMissing",
    "Handle",
    "Mount",
    "NodeFault",
    "Reason",
    "Runtime",
    "Shipped",
    "StepResult",
    "StepSpec",
    "Usage",
]


class NodeFault(TilthError):
    """The step could not be run for a reason of this machine: retry, never blame the code."""

    kind = "node"


class EnvironmentMissing(TilthError):
    """What the code needs cannot be had here: the task fails; `log` is the build's."""

    kind = "environment"

    def __init__(
        self,
        message: str,
        *,
        found: object = "",
        expected: object = "",
        remedy: str = "",
        log: bytes = b"",
    ) -> None:
        super().__init__(message, found=found, expected=expected, remedy=remedy)
        self.log = log


@dataclass(frozen=True, slots=True)
class Shipped:
    """An image of an environment that an organization offers as a file."""

    organization: str
    image: str  # its id: 64 hexadecimal digits
    file: str  # digest of the file
    size: int  # of it, in bytes


@dataclass(frozen=True, slots=True)
class Environment:
    """What code needs to run, from the row that `Step.environment` names; "" is the node's own."""

    digest: str = ""
    requirements: tuple[str, ...] = ()
    base: str = ""  # an image; "" is what the operator offers
    lock: bytes = b""  # a requirements file with hashes
    files: Mapping[str, bytes] = field(default_factory=dict)  # a Dockerfile and its context
    images: tuple[Shipped, ...] = ()  # that organizations offer


@dataclass(frozen=True, slots=True)
class Mount:
    """A host folder that the step sees read-only at `target` below /task ("data", "code", ...)."""

    source: Path
    target: str


@dataclass(frozen=True, slots=True)
class StepSpec:
    """All that one step needs. `files` are copied in, `mounts` are seen in place."""

    step: Step
    collect: Path  # an empty folder of the worker; outputs land here under their own paths
    mounts: tuple[Mount, ...] = ()
    files: Mapping[str, bytes | Path] = field(default_factory=dict)  # path below /task -> content
    environment: Environment = field(default_factory=Environment)

    @property
    def made_from(self) -> str:
        """A digest of all that decides what the step does and where its outputs go. Files on disk
        count by place, inode and times: what was written anew is another file."""
        step = asdict(self.step)
        files = {path: _identity(content) for path, content in sorted(self.files.items())}
        mounts = [[_identity(mount.source), mount.target] for mount in self.mounts]
        facts = [step, str(self.collect), mounts, files, self.environment.digest]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _identity(content: bytes | Path) -> list[object]:
    if isinstance(content, bytes):
        return [hashlib.sha256(content).hexdigest()]
    status = content.stat()
    return [str(content), status.st_ino, status.st_size, status.st_mtime_ns]


@dataclass(frozen=True, slots=True)
class Handle:
    """What finds a started step again after this process died. Durable: journal it before start.

    `made_from` is that of the spec it was staged from; "" is like no spec."""

    id: str
    runtime: str
    facts: Mapping[str, Any]
    made_from: str = ""

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Handle":
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True)
class Usage:
    """What the step used; 0 where the runtime cannot know."""

    wall_ms: int = 0
    cpu_ms: int = 0
    peak_memory_bytes: int = 0
    output_bytes: int = 0


@dataclass(frozen=True, slots=True)
class StepResult:
    """How a step ended. `reason` is None exactly when it succeeded."""

    exit: int | None  # None: it was ended, not by itself
    reason: Reason | None
    detail: str  # one line for people; belongs in the log, never on the ledger
    outputs: Mapping[str, Path]  # declared path -> file or folder below spec.collect
    log: bytes
    log_cut_bytes: int  # how much of the log was dropped at the limit
    usage: Usage
    warm: bool
    grade: str
    runtime: str
    image: str = ""  # id of the image that it ran in
    killed: bool = False  # by SIGKILL, and as far as can be known not for memory or time


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the self-test."""

    name: str
    holds: bool
    detail: str
    grade: str  # the best grade that is possible without it


class Runtime(Protocol):
    """One way to isolate a step."""

    name: str
    grade: str
    cpus: float  # processors that a step may keep busy; 0: as many as there are

    async def stated(self) -> list[Check]:
        """What is known before anything is tried, such as what an engine says of itself."""

    async def offer(self, environment: Environment) -> None:
        """Make sure that steps may run in an environment. Raises EnvironmentMissing."""

    async def stage(self, spec: StepSpec) -> Handle:
        """Prepare; nothing runs yet."""

    async def start(self, handle: Handle) -> None:
        """Let it run."""

    async def attach(self, journaled: str) -> Handle | None:
        """Find a step of an earlier life of this process; None: it is gone, run it again.

        What is found is kept until it is collected or canceled."""

    async def cancel(self, handle: Handle) -> None:
        """End it now, with everything that it started."""

    async def collect(self, handle: Handle) -> StepResult:
        """Wait for the end and gather what it left."""

    async def forget(self, plan: str) -> None:
        """A plan has ended: nothing of it need be kept warm."""

    async def close(self) -> None:
        """End everything, also warm runners."""
