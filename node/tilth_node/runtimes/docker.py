"""Containers (grade A): one hardened container per step on a Docker engine or its like.

What holds: `hardening` around the step, the kernel's accounting of all its processes together, an
image of its own instead of the host's Python, and the walls of `tilth.algorithm.confined` inside.
What does not: the kernel is shared, and whoever may use the engine's socket is root on its host.

Invariants
- Nothing of the node's paths is ever bound: files go in and out by volumes, so that it works as
  well when the node itself is in a container, or the engine is on another machine.
- A container and its volume are named after the step before it starts, and the handle says all that
  `collect` needs: a later life of the node can gather the result or end it.
- What nobody remembers is found by its label and removed before anything new starts.
- What the engine does not hold is named (`stated`, and the self-test) and lowers the grade.
"""

import asyncio
import contextlib
import json
import secrets
import signal
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from tilth_ledger.canonical import dumps, sha256_hex
from tilth_ledger.errors import InvalidInput
from tilth_ledger.steps import Reason, StepLimits
from tilth_node.runtimes import (
    Check,
    Environment,
    Handle,
    NodeFault,
    StepResult,
    StepSpec,
    Usage,
    hardening,
    parcels,
    verdict,
)
from tilth_node.runtimes.building import BuildSettings
from tilth_node.runtimes.engine import Engine, EngineFault
from tilth_node.runtimes.enginefacts import Product, product, weaknesses
from tilth_node.runtimes.hardening import (
    ENVIRONMENT,
    RUNNER,
    STEP,
    USER,
    Volume,
    host_config,
)
from tilth_node.runtimes.images import Fetch, Images
from tilth_node.runtimes.room import check_room
from tilth_node.runtimes.volumes import (
    KIND,
    NODE,
    SEALED,
    Volumes,
    check_sealed,
    remove,
    runner_digest,
    runner_files,
)

if TYPE_CHECKING:
    from docker import APIClient

_GRACE_S: Final = 10.0  # for pid 1 to keep outputs after the time limit that it holds has passed
_WORDS: Final = 400  # of pid 1, when it ended without an answer
_ENDLESS: Final = 1 << 20  # processes are counted per container, not per user of the host
# Podman says "stopped" of one that ended, until it has tidied up after it.
_ADOPTABLE: Final = ("running", "stopped", "exited")
_OWN_FILES: Final = 2  # the log and end.json, beside the outputs
_COMMAND: Final = ("python", "-s", "-P", "-u", "-m", "tilth_node.runtimes.contained")


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What the operator says about the engine."""

    address: str = ""  # as DOCKER_HOST; "" takes that
    build: BuildSettings = field(default_factory=BuildSettings)
    cpus: float = 1.0  # of one step


class Docker:
    """The `Runtime` of one node on one engine."""

    name = "docker"

    def __init__(
        self,
        node: str,
        settings: EngineSettings,
        folder: Path,
        *,
        keep: bool = True,
        fetch: Fetch | None = None,
    ) -> None:
        """`folder` remembers images, `fetch` brings those that others offer; `keep`: shared
        volumes stay for the next life."""
        folder.mkdir(parents=True, exist_ok=True)
        self._keep = keep
        self.grade = "A"
        self.cpus = settings.cpus
        self._node = node
        self._settings = settings
        self._engine = Engine(settings.address)
        self._images = Images(self._engine, settings.build, folder, fetch)
        self._volumes = Volumes(self._engine, node)
        self._product = Product()
        self._known: Product | None = None  # when the node started
        self._running: set[str] = set()
        self._canceled: set[str] = set()
        self._removals: set[asyncio.Task[None]] = set()
        self._opened = self._closed = False
        self._opening = asyncio.Lock()

    async def stated(self) -> list[Check]:
        """What the engine says that it can hold."""
        version, info = await self._engine.run(lambda api: (api.version(), api.info()))
        self._product = product(version, info)
        return weaknesses(version, info)

    async def offer(self, environment: Environment) -> None:
        """Build or find the image."""
        await self._open()
        await self._images.ensure(environment)

    async def stage(self, spec: StepSpec) -> Handle:
        """A container for the step with its files in place; nothing runs yet."""
        await self._open()
        with self._watched():
            image = await self._images.ensure(spec.environment)
            shared = [(await self._volumes.tree(m.source, image), m.target) for m in spec.mounts]
            runner = await self._volumes.runner(image)
            name = self._name(spec)
            volumes = [
                Volume(name, STEP, read_only=False),
                Volume(runner, RUNNER),
                *(Volume(source, f"/task/{target}") for source, target in shared),
            ]
            await self._engine.run(partial(self._create, spec, name, image, volumes))
        self._running.add(name)
        return Handle(
            name,
            self.name,
            {
                "image": image,
                "collect": str(spec.collect),
                "limits": asdict(spec.step.limits),
                "outputs": [o.path for o in spec.step.outputs],
                "max_bytes": sum(o.max_bytes for o in spec.step.outputs),
                "grade": self.grade,
                "walls": self._walls,
            },
            spec.made_from,
        )

    async def start(self, handle: Handle) -> None:
        """Let it run."""
        try:
            with self._watched():
                await self._engine.run(lambda api: api.start(handle.id))
        except EngineFault:
            self._running.discard(handle.id)  # it may run all the same: `_open` ends it
            raise

    async def collect(self, handle: Handle) -> StepResult:
        """Wait for the end; outputs are below the folder that the handle names."""
        limits = StepLimits(**handle.facts["limits"])
        try:
            with self._watched():
                try:
                    async with asyncio.timeout(limits.wall_ms / 1_000 + _GRACE_S):
                        await self._engine.run(lambda api: api.wait(handle.id, timeout=None))
                except TimeoutError:
                    return _result(self, handle, {"reason": "time", "detail": "pid 1 hangs"})
                end, log, size, oom = await self._engine.run(partial(_gather, handle))
        except NodeFault:
            if handle.id not in self._canceled:
                raise
            return _result(self, handle, {"reason": "canceled", "detail": "canceled"})
        except InvalidInput as error:
            return _result(self, handle, {"reason": "wrong_shape", "detail": str(error)})
        finally:
            self._dispose(handle)
        return _result(self, handle, end, log=log, size=size, oom=oom)

    async def cancel(self, handle: Handle) -> None:
        """End it now; `collect` then says canceled."""
        self._canceled.add(handle.id)
        self._running.discard(handle.id)
        await self._remove(handle)

    async def attach(self, journaled: str) -> Handle | None:
        """A step of an earlier life that runs, or has ended and can be collected.

        One that was never started, or that other walls surround than this node would build now,
        is ended."""
        handle = Handle.from_json(journaled)
        if handle.runtime != self.name:
            return None
        try:
            state = await self._engine.run(lambda api: api.inspect_container(handle.id)["State"])
        except EngineFault:
            return None  # gone; or the engine is, and `_open` ends what is left
        if state["Status"] not in _ADOPTABLE or handle.facts.get("walls") != self._walls:
            await self.cancel(handle)
            return None
        self._running.add(handle.id)
        return handle

    async def forget(self, plan: str) -> None:
        """No runner outlives its step; volumes of folders that are gone are removed."""
        if self._opened:
            with contextlib.suppress(EngineFault):
                await self._volumes.sweep()

    async def close(self) -> None:
        """End everything that runs here."""
        if self._closed:
            return
        self._closed = True
        await asyncio.gather(*self._removals, return_exceptions=True)
        with contextlib.suppress(EngineFault):
            for kind in ("step",) if self._keep else ("step", "sealed"):
                await self._engine.run(partial(_end_all, self._node, frozenset(), kind))
        self._engine.close()

    async def _open(self) -> None:
        """Look at the engine and clean up after earlier lives: at first, and after each fault."""
        async with self._opening:
            if self._opened:
                return
            checks = await self.stated()
            self._known = same_engine(self._known, self._product)
            # Only ever lower: what was proven since counts more than what is said.
            self.grade = max([self.grade, *(c.grade for c in checks if not c.holds)])
            self._images.forget()
            self._volumes.forget()
            await self._engine.run(partial(_end_all, self._node, frozenset(self._running), "step"))
            await self._volumes.sweep()
            self._opened = True

    @contextlib.contextmanager
    def _watched(self) -> Any:
        """Around calls: after a fault the engine may be another one, so it is looked at again."""
        try:
            yield
        except EngineFault:
            self._opened = False
            raise

    @cached_property
    def _walls(self) -> str:
        """A digest of what this node would put around any step, and of the code inside."""
        around = [str(self._settings.cpus), *_COMMAND, Path(hardening.__file__).read_text()]
        profile = json.dumps(hardening.seccomp_profile(), sort_keys=True)
        return sha256_hex("\0".join([*around, profile, runner_digest(runner_files())]).encode())

    def _name(self, spec: StepSpec) -> str:
        facts = spec.step.task_json
        what = [facts.get("task", ""), facts.get("attempt", 1), spec.step.name]
        # The rest makes each try another one: an old one may still be on its way out.
        return f"{self._node}-{sha256_hex(dumps(what))[:16]}-{secrets.token_hex(4)}"

    def _create(
        self, spec: StepSpec, name: str, image: str, volumes: list[Volume], api: "APIClient"
    ) -> None:
        limits = spec.step.limits
        labels = {NODE: self._node, KIND: "step"}
        api.create_volume(name, labels=labels)
        config = host_config(api, limits, volumes, self.cpus, labels, self._product)
        api.create_container(
            image,
            list(_COMMAND),
            name=name,
            hostname="task",
            user=USER,
            working_dir="/",
            entrypoint=[],
            environment=dict(ENVIRONMENT),
            labels=labels,
            healthcheck={"test": ["NONE"]},
            host_config=config,
        )
        files = {
            "step.json": json.dumps(_facts(spec, self._product)).encode(),
            "files/task.json": dumps(dict(spec.step.task_json)),
            **{f"files/{path}": content for path, content in spec.files.items()},
        }
        sent = parcels.outgoing(files, ["out"])
        api.put_archive(name, STEP, sent)
        check_sealed(api, self._node, {volume.name for volume in volumes if volume.read_only})

    def _dispose(self, handle: Handle) -> None:
        """Remove what a step left on the engine, while its result goes on its way."""
        self._running.discard(handle.id)
        self._canceled.discard(handle.id)
        removal = asyncio.create_task(self._remove(handle))
        self._removals.add(removal)
        removal.add_done_callback(self._removals.discard)

    async def _remove(self, handle: Handle) -> None:
        # What cannot be removed now, `_open` finds by its label: before the next step.
        with contextlib.suppress(EngineFault), self._watched():
            await self._engine.run(lambda api: remove(api, handle.id, handle.id))


def _facts(spec: StepSpec, engine: Product) -> dict[str, Any]:
    """What pid 1 needs to know."""
    limits = spec.step.limits
    inner = {
        "memory_bytes": limits.memory_bytes,
        "cpu_ms": limits.cpu_ms,
        "processes": _ENDLESS,
        "open_files": limits.open_files,
        "file_bytes": limits.scratch_bytes,
    }
    return {
        "limits": inner,
        "filter": engine.podman,
        "wall_ms": limits.wall_ms,
        "log_bytes": limits.log_bytes,
        "output_files": limits.output_files,
        "outputs": [
            {"path": o.path, "required": o.required, "max_bytes": o.max_bytes}
            for o in spec.step.outputs
        ],
    }


def same_engine(known: Product | None, found: Product) -> Product:
    """The engine that was proven when the node started. Raises EngineFault for one of another
    kind behind the same socket."""
    if known is not None and known.kind != found.kind:
        raise EngineFault(
            "another engine answers than the one that was proven",
            found=found,
            expected=known,
            remedy="restart the node, so that it finds out what this one holds; tasks wait",
        )
    return known or found


Gathered = tuple[Mapping[str, Any], bytes, int, bool]


def _gather(handle: Handle, api: "APIClient") -> Gathered:
    """What an ended container left: pid 1's word, the log, bytes of outputs, memory's sign."""
    collect, declared = Path(handle.facts["collect"]), handle.facts["outputs"]
    limits = StepLimits(**handle.facts["limits"])
    small: dict[str, bytes] = {}
    sizes: list[int] = []

    def take(path: str, size: int, executable: bool, content: IO[bytes]) -> None:
        kind, _, below = path.partition("/")
        if path in ("log", "end.json"):
            small[path] = content.read()
        elif kind == "task" and any(below == d or below.startswith(f"{d}/") for d in declared):
            check_room(collect, size)
            sizes.append(parcels.save(collect, below, executable, content))
        else:
            raise InvalidInput("a file that no output declares", found=path)

    stream, _ = api.get_archive(handle.id, f"{STEP}/out")
    most = handle.facts["max_bytes"] + 2 * limits.log_bytes + 4_096
    parcels.incoming(stream, most, limits.output_files + _OWN_FILES, take)
    end = json.loads(small["end.json"]) if "end.json" in small else None
    if end is not None and end["status"] == 0:
        return end, small.get("log", b""), sum(sizes), False
    state = api.inspect_container(handle.id)["State"]
    oom = bool(state.get("OOMKilled"))
    if end is None:
        words = api.logs(handle.id, tail=5).decode(errors="replace")[-_WORDS:]
        reason = verdict.without_end(state, words)
        end = {"reason": reason.value, "detail": "its first process was ended"}
    return end, small.get("log", b""), sum(sizes), oom


def _result(
    runtime: Docker,
    handle: Handle,
    end: Mapping[str, Any],
    *,
    log: bytes = b"",
    size: int = 0,
    oom: bool = False,
) -> StepResult:
    limits = StepLimits(**handle.facts["limits"])
    reason: Reason | None = verdict.reason_of(end, oom, limits.cpu_ms)
    collect = Path(handle.facts["collect"])
    found = {path: collect / path for path in handle.facts["outputs"]}
    return StepResult(
        exit=end.get("status"),
        reason=reason,
        detail=str(end.get("detail", ""))[:_WORDS],
        outputs={} if reason else {p: f for p, f in found.items() if f.exists()},
        log=log,
        log_cut_bytes=int(end.get("log_cut_bytes", 0)),
        usage=Usage(
            wall_ms=int(end.get("wall_ms", 0)),
            cpu_ms=int(end.get("cpu_ms", 0)),
            peak_memory_bytes=int(end.get("peak_memory_bytes", 0)),
            output_bytes=size,
        ),
        warm=False,
        grade=max(runtime.grade, handle.facts["grade"]),  # of then and now the worse
        runtime=runtime.name,
        image=handle.facts["image"],
        killed=reason is Reason.EXIT and end.get("status") == -signal.SIGKILL,
    )


def _end_all(node: str, keep: frozenset[str], kind: str, api: "APIClient") -> None:
    """Remove all containers and volumes of a kind that carry this node's label, but `keep`."""
    wanted = {"label": [f"{NODE}={node}", f"{KIND}={kind}"]}
    names = {each["Names"][0].lstrip("/") for each in api.containers(all=True, filters=wanted)}
    for name in names - keep:
        remove(api, name, name.removesuffix(SEALED))
    volumes = {each["Name"] for each in api.volumes(filters=wanted).get("Volumes") or ()}
    for name in volumes - keep:
        remove(api, "", name)
