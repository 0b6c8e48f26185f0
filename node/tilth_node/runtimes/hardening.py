"""What surrounds a step in a container: one profile, made from the step's limits.

Invariants
- No network, read-only root, no capabilities, no new privileges, our own system call filter,
  nobody, and limits of memory, processors, processes, open files and disk.
- Nothing of the host is bound: only volumes, and memory disks that count as the step's memory.
- The engine's socket is never among the mounts, whatever a step asks for.
- Where Podman takes less, the same is held otherwise: the filter is loaded by pid 1's child before
  the step (`contained`), memory disks belong to root but anyone may write.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tilth_ledger.steps import StepLimits
from tilth_node.runtimes import seccomp
from tilth_node.runtimes.enginefacts import Product
from tilth_node.runtimes.parcels import NOBODY

if TYPE_CHECKING:
    from docker import APIClient

STEP: Final = "/volumes/step"  # what the node sends and takes back
RUNNER: Final = "/opt/tilth"  # the code that runs steps
USER: Final = f"{NOBODY}:{NOBODY}"
ENVIRONMENT: Final[Mapping[str, str]] = {
    "HOME": "/tmp",  # noqa: S108  of the container
    "TMPDIR": "/tmp",  # noqa: S108
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONPATH": RUNNER,
    **dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
    ),
}
_FIRST_PROCESS: Final = 2  # pid 1 and its child before it becomes the step
_INODES: Final = 100_000
_OF_NOBODY: Final = 4_096  # processes; below the hard limit of small machines
_NAMESPACE_FLAGS: Final = (
    *(0x00020000, 0x02000000, 0x04000000, 0x08000000),  # mount, cgroup, uts, ipc
    *(0x10000000, 0x20000000, 0x40000000),  # user, pid, net
)
_NO_SYSTEM: Final = 38  # ENOSYS


@dataclass(frozen=True, slots=True)
class Volume:
    """A named volume as the step sees it."""

    name: str
    target: str
    read_only: bool = True


def seccomp_profile() -> dict[str, Any]:
    """The engine's form of the filter that `seccomp` holds for the sandbox: the same table.

    The engine adds that calls of other architectures end the process.
    """
    refuse: dict[str, Any] = {"action": "SCMP_ACT_ERRNO", "errnoRet": 1}

    def unless(name: str, value: int) -> dict[str, Any]:
        argument = {"index": 0, "value": value, "op": "SCMP_CMP_NE"}
        return {**refuse, "names": [name], "args": [argument]}

    flags = [
        {
            **refuse,
            "names": ["clone"],
            "args": [{"index": 0, "value": flag, "valueTwo": flag, "op": "SCMP_CMP_MASKED_EQ"}],
        }
        for flag in _NAMESPACE_FLAGS
    ]
    return {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            {**refuse, "names": sorted(seccomp.DENIED)},
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _NO_SYSTEM},
            *flags,
            unless("socket", 1),
            unless("socketpair", 1),
            *(unless(name, 0) for name in seccomp.SELF_ONLY),
        ],
    }


def host_config(
    api: "APIClient",
    limits: StepLimits,
    volumes: Iterable[Volume],
    cpus: float,
    labels: Mapping[str, str],
    engine: Product,
) -> dict[str, Any]:
    """Everything but image and command, as this engine takes it."""
    from docker.types import LogConfig, Mount, Ulimit

    memory = limits.memory_bytes + limits.scratch_bytes  # what is written there counts as memory
    disk = f"size={limits.scratch_bytes},nosuid,nodev,noexec"
    bounds = {"nofile": limits.open_files, "fsize": limits.scratch_bytes, "core": 0}
    rights = ["no-new-privileges:true"]
    if engine.podman:
        own = f"{disk},mode=1777"
        bounds["nproc"] = _OF_NOBODY
    else:
        own = f"{disk},nr_inodes={_INODES},mode=0700,uid={NOBODY},gid={NOBODY}"
        rights.append(f"seccomp={json.dumps(seccomp_profile())}")
    config: dict[str, Any] = api.create_host_config(
        network_mode="none",
        read_only=True,
        cap_drop=["ALL"],
        security_opt=rights,
        pids_limit=limits.processes + _FIRST_PROCESS,
        mem_limit=memory,
        memswap_limit=memory,
        nano_cpus=int(cpus * 1e9),
        ipc_mode="private",
        shm_size=limits.scratch_bytes,
        tmpfs={"/task": own, "/tmp": own},  # noqa: S108  of the container
        ulimits=[Ulimit(name=name, soft=value, hard=value) for name, value in bounds.items()],
        log_config=LogConfig(type="json-file", config={"max-size": "64k", "max-file": "1"}),
        oom_score_adj=1000,  # when the host runs out of memory, a step goes before anything else
        mounts=[
            Mount(
                volume.target,
                volume.name,
                type="volume",
                read_only=volume.read_only,
                no_copy=True,  # else the engine fills it from the image, and resets its owner
                labels=dict(labels),
            )
            for volume in volumes
        ],
    )
    return config
