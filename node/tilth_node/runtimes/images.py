"""Environments as images: built once per digest, then named by the image's own id.

Invariants
- What runs is an image id, never a name: what was built for an environment is written down
  (`images.json`), and another image under the same name is refused.
- A build has no network unless the operator said so, and pulls nothing; wheels may lie in a folder
  of the operator's.
- An environment that cannot be had is the asker's trouble (`EnvironmentMissing`, with the build's
  log); a base image that the operator has not made is this machine's (`NodeFault`).
"""

import asyncio
import io
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tilth_ledger.canonical import dumps
from tilth_node.folder import write_file
from tilth_node.runtimes import Environment, EnvironmentMissing, dockerfile
from tilth_node.runtimes.boundedlog import BoundedLog
from tilth_node.runtimes.engine import Engine, EngineFault

if TYPE_CHECKING:
    from docker import APIClient

LABEL: Final = "org.tilth.environment"
OWN: Final = Environment("own", ("h5py", "numpy"))  # of steps that name no environment
_LOG_BYTES: Final = 1 << 18
_LAST_WORDS: Final = 300
_BUILD_MEMORY: Final = 4 << 30  # of a build's processes together
_MODE: Final = 0o755  # of files beside a Dockerfile: it may run any of them
_COLOURS: Final = re.compile("\x1b\\[[0-9;]*m")


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """What the operator allows."""

    base: str = "tilth-task"
    network: str = "none"  # of a build: none, default or host
    wheels: Path | None = None


class Images:
    """The images of environments on one engine; `record` is the file that remembers them."""

    def __init__(self, engine: Engine, settings: BuildSettings, record: Path) -> None:
        self._engine = engine
        self._settings = settings
        self._record = record
        self._known: dict[str, str] = {}
        self._lock = asyncio.Lock()

    async def ensure(self, environment: Environment) -> str:
        """The id of the environment's image. Raises EnvironmentMissing or NodeFault."""
        environment = environment if environment.digest else OWN
        async with self._lock:
            if environment.digest not in self._known:
                image = await self._engine.run(partial(self._find_or_build, environment))
                self._known[environment.digest] = image
        return self._known[environment.digest]

    def forget(self) -> None:
        """The engine may have changed: look again."""
        self._known.clear()

    def _find_or_build(self, environment: Environment, api: "APIClient") -> str:
        recorded = self._recorded()
        agreed = recorded.get(environment.digest)
        if agreed and _inspect(api, agreed):
            return agreed
        tag = f"tilth-environment:{environment.digest[:32]}"
        found = _inspect(api, tag)
        if found is None:
            found = self._build(environment, tag, api)
        elif agreed and found["Id"] != agreed:
            raise EnvironmentMissing(
                "the image of an environment is not the one that was built for it",
                found=found["Id"],
                expected=agreed,
                remedy=f"docker image rm {tag}, so that it is built again; or remove its line "
                f"from {self._record} if the change is wanted",
            )
        image = str(found["Id"])
        write_file(self._record, dumps(recorded | {environment.digest: image}))
        return image

    def _recorded(self) -> dict[str, str]:
        try:
            recorded: dict[str, str] = json.loads(self._record.read_bytes())
        except FileNotFoundError:
            return {}
        return recorded

    def _build(self, environment: Environment, tag: str, api: "APIClient") -> dict[str, Any]:
        base = self._base(environment, api)
        own = _own_dockerfile(environment)
        network = self._settings.network
        if own:
            for each in dockerfile.images(own, base, network=network != "none"):
                _check_base(each, _inspect(api, each), own=each == self._settings.base)
        log = BoundedLog(_LOG_BYTES)
        events = api.build(
            fileobj=io.BytesIO(self._context(environment, base)),
            custom_context=True,
            tag=tag,
            labels={LABEL: environment.digest},
            network_mode=network,
            buildargs={dockerfile.BASE: base} if own and dockerfile.takes_base(own) else None,
            container_limits={"memory": _BUILD_MEMORY, "memswap": _BUILD_MEMORY},
            rm=True,
            forcerm=True,
            decode=True,
        )
        if problem := _follow(events, log):
            raise _cannot_build(environment, problem, self._settings, log.text())
        built = _inspect(api, tag)
        if built is None:
            raise EngineFault("an image is gone right after it was built", found=tag)
        return built

    def _base(self, environment: Environment, api: "APIClient") -> str:
        """The base image: its id where an environment names one by digest, else its name."""
        base = environment.base or self._settings.base
        if not dockerfile.IMAGE.fullmatch(base):
            raise EnvironmentMissing(
                "an environment's base is no name of an image",
                found=base[:80],
                expected="NAME, NAME:TAG or NAME@sha256:DIGEST",
                remedy="register the environment again with another base",
            )
        own = _own_dockerfile(environment)
        if own and not dockerfile.takes_base(own):
            return base  # it starts from what it names itself
        name, at, _ = base.partition("@")
        found = _inspect(api, base) or (_inspect(api, name) if at else None)
        _check_base(base, found, own=not environment.base)
        return str(found["Id"]) if at and found else base

    def _context(self, environment: Environment, base: str) -> bytes:
        """The build context: the environment's own files, or our Dockerfile and requirements;
        beside them the operator's wheels."""
        wheels = sorted(self._settings.wheels.glob("*.whl")) if self._settings.wheels else []
        files = dict(environment.files)
        if not _own_dockerfile(environment):
            text = _dockerfile(environment, base, bool(wheels), self._settings.network)
            stated = "\n".join(environment.requirements).encode()
            files |= {"Dockerfile": text, "requirements.txt": environment.lock or stated}
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for name, content in sorted(files.items()):
                info = tarfile.TarInfo(name)
                info.size, info.mode = len(content), _MODE
                archive.addfile(info, io.BytesIO(content))
            for wheel in wheels:
                archive.add(wheel, f"wheels/{wheel.name}")
        return packed.getvalue()


def _own_dockerfile(environment: Environment) -> str:
    return environment.files.get("Dockerfile", b"").decode(errors="replace")


def _dockerfile(environment: Environment, base: str, wheels: bool, network: str) -> bytes:
    options = ["--no-cache-dir", "--disable-pip-version-check"]
    options += ["--no-index"] if network == "none" else []
    options += ["--find-links=/wheels"] if wheels else []
    options += ["--require-hashes"] if environment.lock else []
    lines = [
        f"FROM {base}",
        "USER 0:0",
        *(["COPY wheels /wheels"] if wheels else []),
        "COPY requirements.txt /requirements.txt",
        f"RUN python -m pip install {' '.join(options)} -r /requirements.txt",
        "USER 65534:65534",
    ]
    return "\n".join(lines).encode()


def _inspect(api: "APIClient", name: str) -> dict[str, Any] | None:
    from docker.errors import NotFound

    try:
        found: dict[str, Any] = api.inspect_image(name)  # type: ignore[no-untyped-call]
    except NotFound:
        return None
    return found


def _check_base(base: str, found: dict[str, Any] | None, *, own: bool) -> None:
    """The base is here, and is the one that its name's digest says."""
    name, _, digest = base.partition("@")
    if found is None:
        kind = EngineFault if own else EnvironmentMissing
        raise kind(
            "the base image of an environment is not on this engine",
            found="no such image",
            expected=base,
            remedy=f"docker pull {base}, or docker load it from a file; a node never pulls",
        )
    known = [found["Id"], *(each.partition("@")[2] for each in found.get("RepoDigests") or ())]
    if digest and digest not in known:
        raise EnvironmentMissing(
            "the base image is another one than the environment names",
            found=", ".join(known),
            expected=digest,
            remedy=f"docker pull {name}@{digest}",
        )


def _follow(events: Iterator[dict[str, Any]], log: BoundedLog) -> str:
    """Read a build to its end; what went wrong, or nothing."""
    problem = ""
    for event in events:
        log.add(_COLOURS.sub("", str(event.get("stream", ""))).encode())
        problem = str(event.get("error", "")) or problem
    return problem


def _cannot_build(
    environment: Environment, problem: str, settings: BuildSettings, log: bytes
) -> Exception:
    if "no space left on device" in problem or b"No space left on device" in log:
        return EngineFault(
            "the engine's disk is full: an environment cannot be built",
            found=problem,
            remedy="docker system df shows what fills it; docker image prune frees old images",
        )
    offline = settings.network == "none"
    return EnvironmentMissing(
        "the image of an environment cannot be built" + (" without network" if offline else ""),
        found=log.decode(errors="replace").strip()[-_LAST_WORDS:] or problem,
        expected=", ".join(environment.requirements) or "what its Dockerfile asks for",
        remedy="put the wheels into the folder engine.wheels of node.toml, use a base image that "
        'has them, or let builds use the network: engine.build_network = "default"'
        if offline
        else "see the log of the build",
        log=log,
    )
