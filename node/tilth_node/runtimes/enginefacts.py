"""What an engine says of itself, and what that means for the grade. Pure.

Nothing here is proof: the self-test tries to escape. But what an engine admits that it cannot hold
(no limits when rootless, no filter, too old) is named before anything runs.
"""

from collections.abc import Mapping
from typing import Any, Final

from tilth_node.runtimes import Check

OLDEST_API: Final = (1, 40)
# What `info` must say: name of the line, field, what is left without it, words.
_LIMITS: Final = (
    ("memory limit", "MemoryLimit", "C"),
    ("limit of memory and swap together", "SwapLimit", "B"),
    ("limit of processes", "PidsLimit", "C"),
    ("limit of processors", "CpuCfsQuota", "B"),
)


def weaknesses(version: Mapping[str, Any], info: Mapping[str, Any]) -> list[Check]:
    """One line per thing that the grade rests on."""
    name = _engine(version)
    api = str(version.get("ApiVersion", "0"))
    options = [str(each) for each in info.get("SecurityOptions") or ()]
    rootless = any("rootless" in each for each in options)
    who = f"{name}{', rootless' if rootless else ''}"
    new_enough = tuple(int(part) for part in api.split(".")) >= OLDEST_API
    filtered = any("seccomp" in each for each in options)
    told = "the engine reports kills for want of memory"
    return [
        Check("the engine is new enough", new_enough, f"{name}, API {api}", "D"),
        Check("the engine runs Linux", info.get("OSType") == "linux", str(info.get("OSType")), "D"),
        Check("the engine filters system calls", filtered, ", ".join(options) or "none", "C"),
        *(
            Check(f"the engine has a {line}", bool(info.get(field)), _words(info, field, who), left)
            for line, field, left in _LIMITS
        ),
        Check(told, "podman" not in name.lower(), name, "B"),
    ]


def _engine(version: Mapping[str, Any]) -> str:
    parts = version.get("Components") or ()
    named = [str(part.get("Name", "")) for part in parts]
    product = next((each for each in named if "podman" in each.lower()), "Docker")
    return f"{product} {version.get('Version', '')}".strip()


def _words(info: Mapping[str, Any], field: str, who: str) -> str:
    if info.get(field):
        return who
    groups = info.get("CgroupVersion", "1")
    return f"{who} on cgroup v{groups} cannot; a rootless engine needs cgroup v2 with delegation"
