"""What an engine says of itself, and what that means for the grade. Pure.

Nothing here is proof: the self-test tries to escape. But which engine it is, what it takes in a
container's configuration, and what it admits that it cannot hold (no limits when rootless, no
filter) is known before anything runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tilth_node.runtimes import Check

OLDEST_API: Final = (1, 40)
OLDEST_NAME: Final = "API 1.40 (Docker 19.03) or newer"
THE_ENGINE: Final = "the engine"
MEMORY: Final = "the engine has a memory limit"
# What `info` must say: name of the line, field, what is left without it.
_LIMITS: Final = (
    (MEMORY, "MemoryLimit", "C"),
    ("the engine has a limit of memory and swap together", "SwapLimit", "B"),
    ("the engine has a limit of processes", "PidsLimit", "C"),
    ("the engine has a limit of processors", "CpuCfsQuota", "B"),
)


@dataclass(frozen=True, slots=True)
class Product:
    """Which engine it is."""

    name: str = "Docker"
    version: str = ""
    api: str = ""
    rootless: bool = False
    cgroups: str = "1"  # version of the kernel's control groups

    @property
    def podman(self) -> bool:
        """Podman, through its Docker API: takes no filter but from a file on its own machine, no
        owner and no number of files of a memory disk, and asks for more processes than its own
        limit where none is named."""
        return "podman" in self.name.lower()

    @property
    def kind(self) -> tuple[str, bool, str]:
        """What its protections depend on: an upgrade changes it not."""
        return self.name, self.rootless, self.cgroups

    def __str__(self) -> str:
        kind = "rootless" if self.rootless else "run by root"
        name = f"{self.name} {self.version}".strip()
        return f"{name}, API {self.api}, {kind}, cgroup v{self.cgroups}"


def product(version: Mapping[str, Any], info: Mapping[str, Any]) -> Product:
    """The engine that gave these answers."""
    parts = [str(part.get("Name", "")) for part in version.get("Components") or ()]
    return Product(
        name=next((each for each in parts if "podman" in each.lower()), "Docker"),
        version=str(version.get("Version", "")),
        api=str(version.get("ApiVersion", "0")),
        rootless=bool(info.get("Rootless")) or any("rootless" in each for each in _options(info)),
        cgroups=str(info.get("CgroupVersion") or "1"),
    )


def new_enough(api: str) -> bool:
    """Whether an API version has all that the runtime asks for."""
    return tuple(int(part) for part in api.split(".") if part.isdigit()) >= OLDEST_API


def weaknesses(version: Mapping[str, Any], info: Mapping[str, Any]) -> list[Check]:
    """One line per thing that the grade rests on; the first says which engine it is."""
    engine = product(version, info)
    system, options = str(info.get("OSType")), _options(info)
    filtered = any("seccomp" in each for each in options)
    return [
        Check(THE_ENGINE, True, str(engine), "D"),  # too old a one is not spoken to at all
        Check("the engine runs Linux", system == "linux", system, "D"),
        Check("the engine filters system calls", filtered, ", ".join(options) or "none", "C"),
        *(
            Check(line, bool(info.get(of)), _words(info, of, engine), left)
            for line, of, left in _LIMITS
        ),
    ]


def _options(info: Mapping[str, Any]) -> list[str]:
    return [str(each) for each in info.get("SecurityOptions") or ()]


def _words(info: Mapping[str, Any], field: str, engine: Product) -> str:
    if info.get(field):
        return "it says so"
    helps = "; a rootless engine needs cgroup v2 with delegation" if engine.rootless else ""
    return f"{engine} cannot{helps}"
