"""Building the image of an environment on an engine, from its requirements, lock or Dockerfile.

Invariants
- A build has no network unless the operator said so, and pulls nothing; wheels may lie in a folder
  of the operator's.
- An environment that cannot be had is the asker's trouble (`EnvironmentMissing`, with the build's
  log); a base image that the operator has not made, or a full disk, is this machine's
  (`NodeFault`).

Left to others: what a Dockerfile would fetch by itself (`dockerfile`), which image may run
(`images`).
"""

import io
import re
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tilth_node.runtimes import Environment, EnvironmentMissing, dockerfile, imagefile
from tilth_node.runtimes.boundedlog import BoundedLog
from tilth_node.runtimes.engine import EngineFault

if TYPE_CHECKING:
    from docker import APIClient

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
    seconds: int = 3_600  # that a build may take
    images_from: tuple[str, ...] = ()  # organizations whose images are taken, best first


def build(environment: Environment, settings: BuildSettings, api: "APIClient") -> str:
    """Build an environment's image; its id. Raises EnvironmentMissing or EngineFault."""
    from requests.exceptions import RequestException
    from urllib3.exceptions import HTTPError

    tag = tag_of(environment.digest)
    base = _base(environment, settings, api)
    own = _own_dockerfile(environment)
    network = settings.network
    if own:
        for each in dockerfile.images(own, base, network=network != "none"):
            _check_base(each, inspect(api, each), own=each == settings.base)
    log = BoundedLog(_LOG_BYTES)
    deadline, problem = time.monotonic() + settings.seconds, ""
    events = api.build(
        fileobj=io.BytesIO(context(environment, base, settings)),
        custom_context=True,
        tag=tag,
        labels={imagefile.LABEL: environment.digest},
        network_mode=network,
        buildargs={dockerfile.BASE: base} if own and dockerfile.takes_base(own) else None,
        container_limits={"memory": _BUILD_MEMORY, "memswap": _BUILD_MEMORY},
        rm=True,
        forcerm=True,
        decode=True,
        timeout=settings.seconds,  # of silence
    )
    try:
        problem = follow(_in_time(events, deadline), log)
    except (HTTPError, RequestException):
        if time.monotonic() < deadline:
            raise  # the engine is gone
    events.close()
    if time.monotonic() > deadline:
        del events  # and the connection with it: an engine ends a build that nobody follows
        raise _too_slow(environment, settings, log.text())
    if problem:
        raise _cannot_build(environment, problem, settings, log.text())
    built = inspect(api, tag)
    if built is None:
        raise EngineFault("an image is gone right after it was built", found=tag)
    return str(built["Id"])


def _in_time(events: Iterator[dict[str, Any]], deadline: float) -> Iterator[dict[str, Any]]:
    """The events until the deadline."""
    for event in events:
        yield event
        if time.monotonic() > deadline:
            return


def _too_slow(environment: Environment, settings: BuildSettings, log: bytes) -> EnvironmentMissing:
    return EnvironmentMissing(
        "the image of an environment takes too long to build",
        found=log.decode(errors="replace").strip()[-_LAST_WORDS:],
        expected=f"a build of at most {settings.seconds} s",
        remedy="build less of it, or bring the image: tilth node image import; the operator's "
        "bound is engine.build_seconds in node.toml",
        log=log,
    )


def _base(environment: Environment, settings: BuildSettings, api: "APIClient") -> str:
    """The base image: its id where an environment names one by digest, else its name."""
    base = environment.base or settings.base
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
    found = inspect(api, base) or (inspect(api, name) if at else None)
    _check_base(base, found, own=not environment.base)
    return str(found["Id"]) if at and found else base


def context(environment: Environment, base: str, settings: BuildSettings) -> bytes:
    """The build context: the environment's own files, or our Dockerfile and requirements;
    beside them the operator's wheels."""
    wheels = sorted(settings.wheels.glob("*.whl")) if settings.wheels else []
    files = dict(environment.files)
    if not _own_dockerfile(environment):
        text = _dockerfile(environment, base, bool(wheels), settings.network)
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


def tag_of(environment: str) -> str:
    """The name that people see; what runs is an id."""
    return f"tilth-environment:{environment[:32]}"


def inspect(api: "APIClient", name: str) -> dict[str, Any] | None:
    """What an engine knows of an image; None when it has none of that name or id."""
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


def follow(events: Iterator[dict[str, Any]], log: BoundedLog) -> str:
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
        return full(problem)
    if environment.images:
        return _offered(environment, log)
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


def full(problem: str) -> EngineFault:
    """The engine has no room for an image: this machine's trouble, waited out."""
    return EngineFault(
        "the engine's disk is full: no room for the image of an environment",
        found=problem,
        expected="free space where the engine keeps images",
        remedy="docker system df shows what fills it; docker image prune frees old images",
    )


def _offered(environment: Environment, log: bytes) -> EnvironmentMissing:
    """It cannot be built here, but others state an image of it."""
    stated = environment.images[0]
    return EnvironmentMissing(
        "the image of an environment cannot be built here, and no operator's word lets another in",
        found=f"{stated.organization} states the image {stated.image}",
        expected="an image that this node's operator approved",
        remedy=f"tilth node image approve FOLDER {environment.digest} {stated.image}, or "
        f'engine.images_from = ["{stated.organization}"] in node.toml',
        log=log,
    )
