"""Each option of a step's container, tried on its own: no second wall of Tilth's stands behind it.

The attempts run as a container's first process, with the profile of a step and none of what the
runner adds inside (no Landlock, no bounds of its own). Their twin is a container without the
profile, where they succeed: an attempt that fails anywhere would prove nothing.
"""

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from engine import Engine

from tilth_ledger.steps import StepLimits
from tilth_node.runtimes import escapes, overuse, parcels
from tilth_node.runtimes.enginefacts import product
from tilth_node.runtimes.hardening import ENVIRONMENT, STEP, USER, Volume, host_config

pytestmark = pytest.mark.docker

MIB = 1 << 20
LIMITS = StepLimits(
    memory_bytes=96 * MIB, processes=20, scratch_bytes=16 * MIB, open_files=64, log_bytes=4_096
)
LOG = 4 * MIB
CODE = Path(__file__).with_name("container_walls.py")
# What stops each attempt: the name of the error, or words of it.
STOPPED = {
    # network_mode none
    "see_network_cards": "loopback",
    "connect_to_host_by_name": "ECONNREFUSED",
    # read_only, and volumes that are
    "write_system": "EROFS",
    "write_shared": "EROFS",
    # tmpfs and shm: size, files, noexec, nodev
    "fill_tmp": "ENOSPC",
    "fill_shared_memory": "ENOSPC",
    "make_files_without_end": "ENOSPC",
    "run_what_it_wrote": "EACCES",
    # cap_drop, user, no-new-privileges
    "make_device": "EPERM",
    "give_away": "EPERM",
    "become_root": "EPERM",
    "gain_rights_by_a_program": "ran as 65534",
    "keep_rights": "no capabilities, no new privileges, filtered calls",
    # our own filter
    **dict.fromkeys(
        (
            "open_network_socket",
            "make_namespace",
            "leave_root",
            "mount_disk",
            "load_into_kernel",
            "use_keys",
            "use_io_uring",
            "use_userfaultfd",
            "watch_performance",
            "share_memory_for_ever",
        ),
        "EPERM",
    ),
    # pids, processors, ulimits
    "fork_without_end": "EAGAIN",
    "take_more_processors": "of 0.5 processors",
    "open_files_without_end": "EMFILE",
    "make_a_huge_file": "EFBIG",
    "leave_a_core": "no core",
    # own processes only; no engine among them
    "see_host_processes": "only",
    "find_engine": "no socket anywhere",
}
RIGHTS = ["SYS_ADMIN", "MKNOD", "CHOWN", "SETUID", "SYS_CHROOT"]
# A busy machine takes processors too; whether a core is left is the machine's setting.
NEVER_BY_US = {"take_more_processors", "leave_a_core", "connect_to_host_by_name"}


class Bench:
    """Containers that make attempts, on the test's engine."""

    def __init__(self, engine: Engine) -> None:
        import docker

        self.api = docker.APIClient(engine.address, version="auto")
        self.socket = engine.address.removeprefix("unix://")
        self.product = product(self.api.version(), self.api.info())
        self.image = self.api.inspect_image("tilth-task")["Id"]
        self.names: list[str] = []

    def run(self, host: dict[str, Any], user: str, names: Sequence[str]) -> dict[str, list[Any]]:
        """What became of these attempts in a container of that kind."""
        aim = {
            "names": list(names),
            "root": "/tmp",
            "socket": "tilth-nobody-listens-here",
            "processes": LIMITS.processes,
            "open_files": LIMITS.open_files,
            "scratch_bytes": LIMITS.scratch_bytes,
            "cpus": 0.5,
            "log": LOG,
        }
        name = f"tilth-walls-{len(self.names)}"
        self.names.append(name)
        self.api.create_container(
            self.image,
            ["python", "-s", "/volumes/step/code/container_walls.py"],
            name=name,
            user=user,
            environment={**ENVIRONMENT, "AIM": json.dumps(aim)},
            host_config=host,
        )
        sent = {
            f"code/{path.name}": path.read_bytes()
            for path in (CODE, Path(escapes.__file__), Path(overuse.__file__))
        }
        self.api.put_archive(name, STEP, parcels.outgoing(sent, ["out"]))
        self.api.start(name)
        assert self.api.wait(name)["StatusCode"] == 0, self.api.logs(name, tail=20).decode()
        stream, _ = self.api.get_archive(name, f"{STEP}/out/findings.json")
        with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
            findings = archive.extractfile("findings.json")
            assert findings is not None
            return dict(json.load(findings))

    def volumes(self) -> list[Volume]:
        """The step's own, and one that it shares with others."""
        names = [f"tilth-walls-{len(self.names)}-{kind}" for kind in ("step", "shared")]
        return [Volume(names[0], STEP, read_only=False), Volume(names[1], "/task/data")]

    def profile(self) -> dict[str, Any]:
        """A step's."""
        return host_config(self.api, LIMITS, self.volumes(), 0.5, {}, self.product)

    def bare(self, **more: Any) -> dict[str, Any]:
        """The twin's: nothing is held."""
        from docker.types import Mount

        mounts = [Mount(v.target, v.name, type="volume", no_copy=True) for v in self.volumes()]
        mounts += [Mount("/run/docker.sock", self.socket, type="bind")]
        return dict(
            self.api.create_host_config(
                mounts=mounts, network_mode="host", tmpfs={"/tmp": "exec,mode=1777"}, **more
            )
        )


@pytest.fixture(scope="module")
def bench(engine: Engine) -> Iterator[Bench]:
    engine.start_if_ended()
    made = Bench(engine)
    yield made
    for name in made.names:
        made.api.remove_container(name, force=True, v=True)
    made.api.close()
    engine.clear()


@pytest.fixture(scope="module")
def found(bench: Bench) -> dict[str, list[Any]]:
    return bench.run(bench.profile(), USER, list(STOPPED))


@pytest.mark.parametrize("attempt", list(STOPPED))
def test_an_option_of_the_profile_stops(found: dict[str, list[Any]], attempt: str) -> None:
    stopped, words = found[attempt]
    assert stopped, words
    assert STOPPED[attempt] in words


def test_the_log_of_a_container_is_bounded(bench: Bench, found: dict[str, list[Any]]) -> None:
    assert len(bench.api.logs(bench.names[0])) < 128 << 10


def test_without_the_profile_every_attempt_succeeds(bench: Bench) -> None:
    names = sorted(set(STOPPED) - NEVER_BY_US)
    host = bench.bare(cap_add=RIGHTS, security_opt=["seccomp=unconfined"], pid_mode="host")
    found = bench.run(host, "0:0", names)
    assert {name: words for name, (stopped, words) in found.items() if stopped} == {}
    assert len(bench.api.logs(bench.names[-1])) >= LOG


def test_without_no_new_privileges_a_program_gives_its_rights_to_nobody(bench: Bench) -> None:
    found = bench.run(bench.bare(), USER, ["gain_rights_by_a_program"])
    assert found["gain_rights_by_a_program"] == [False, "/usr/bin/su ran as root"]
