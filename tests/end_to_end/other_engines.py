"""Engines of other kinds for tests: Podman, and Docker without root; private, stopped at the end.

    with Podman(engine) as podman: ...      # or the fixtures `podman`, `rootless`

Each gets the image of tasks from the test's usual engine, once, and keeps it in that engine's data
folder. Nothing of the machine is changed: the user that runs the rootless engine exists in that
engine's own view of /etc only, and so does the network device that it may open.
"""

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import IO, Self

from engine import ENDS_WITH_US, STOP_SECONDS, TASK, Engine, Missing

USER = 61_000  # of the rootless engine; nobody's on this machine
SUBORDINATE = "600000:65536"
CONTAINERS_CONF = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
STORAGE_CONF = """\
[storage]
driver = "overlay"
graphroot = "{data}/graph"
runroot = "/run/containers/storage"
"""
# Its own /run and /dev/shm, as after a start of the machine: what another Podman keeps there stays.
PODMAN = """\
set -e
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /dev/shm
exec podman --log-level=info system service --time=0 "$1"
"""
# The engine's own view of /etc and /dev; then the user, for good.
ROOTLESS = """\
set -e
cd "$1"
for name in passwd group subuid subgid; do mount --bind $name /etc/$name; done
mount --bind tun /dev/net/tun
mount --bind "$2" data
exec setpriv --reuid $3 --regid $3 --clear-groups --pdeathsig TERM \
  env -i PATH="$PATH:/usr/sbin:/sbin" HOME="$1/home" XDG_RUNTIME_DIR="$1/run" \
  {script} --host "unix://$1/run/docker.sock" --data-root "$1/data" \
  --exec-root "$1/run/exec" --pidfile "$1/run/pid" \
  --iptables=false --ip6tables=false --bridge=none
"""
SCRIPT = "/usr/share/docker.io/contrib/dockerd-rootless.sh"


class Other:
    """What the two have in common."""

    PROGRAMS: tuple[str, ...]
    READY: str

    def __init__(self, engine: Engine) -> None:
        absent = [name for name in self.PROGRAMS if shutil.which(name) is None]
        if absent:
            raise Missing(f"not installed: {', '.join(absent)}")
        self.folder = Path(tempfile.mkdtemp(prefix="tilth-engine-"))
        self.folder.chmod(0o755)
        self.data = engine.data / type(self).__name__.lower()
        self.address = f"unix://{self.folder}/run/docker.sock"
        self._engine = engine

    def __enter__(self) -> Self:
        self._prepare()
        log = self.folder / "log"
        read, write = os.pipe()
        self.process = subprocess.Popen(
            [*ENDS_WITH_US, *self._command()],
            cwd=self.folder,  # where Podman leaves a file when memory ran out
            env={**os.environ, **self._environment()},
            stdin=subprocess.DEVNULL,
            stdout=write,
            stderr=write,
            start_new_session=True,
        )
        os.close(write)
        with open(read, "rb") as said, log.open("ab") as kept:
            self._wait(said, kept)
        if TASK not in self.docker("image", "ls", "--format", "{{.Repository}}"):
            self._load()
        self.clear()
        return self

    def _wait(self, said: IO[bytes], kept: IO[bytes]) -> None:
        for line in said:
            kept.write(line)
            if self.READY.encode() in line:
                break
        else:
            kept.flush()
            raise Missing(f"no {type(self).__name__}: {Path(kept.name).read_text()[-1500:]}")
        self._drain = subprocess.Popen(["cat"], stdin=said, stdout=kept)

    def __exit__(self, *_: object) -> None:
        self.clear()
        self._stop()
        self._drain.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def docker(self, *words: str) -> str:
        """Run the docker command; what it printed."""
        environment = {**os.environ, "DOCKER_HOST": self.address}
        done = subprocess.run(
            ["docker", *words], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def clear(self) -> None:
        """Remove all containers and volumes; images stay."""
        for name in self.docker("ps", "-aq").split():
            self.docker("rm", "-f", name)
        for name in self.docker("volume", "ls", "-q").split():
            self.docker("volume", "rm", name)

    def _load(self) -> None:
        with subprocess.Popen(
            ["docker", "save", TASK], env=self._engine.environment, stdout=subprocess.PIPE
        ) as saving:
            environment = {**os.environ, "DOCKER_HOST": self.address}
            loading = ["docker", "load", "--quiet"]
            subprocess.run(
                loading, env=environment, stdin=saving.stdout, stdout=subprocess.DEVNULL, check=True
            )

    def _prepare(self) -> None:
        raise AssertionError("every engine has its own")

    def _command(self) -> list[str]:
        raise AssertionError("every engine has its own")

    def _environment(self) -> dict[str, str]:
        return {}

    def _stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(STOP_SECONDS)


class Podman(Other):
    """Podman's service for clients of Docker, run by root."""

    PROGRAMS = ("podman", "conmon", "runc", "unshare")
    READY = "API service listening on"

    def _prepare(self) -> None:
        self.data.mkdir(parents=True, exist_ok=True)
        (self.folder / "run").mkdir()
        (self.folder / "containers.conf").write_text(CONTAINERS_CONF.format(data=self.data))
        (self.folder / "storage.conf").write_text(STORAGE_CONF.format(data=self.data))

    def _command(self) -> list[str]:
        return ["unshare", "--mount", "sh", "-c", PODMAN, "podman", self.address]

    def _environment(self) -> dict[str, str]:
        return {
            "CONTAINERS_CONF": str(self.folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
        }


class Rootless(Other):
    """Docker, run by a user who is not root."""

    PROGRAMS = ("dockerd", "rootlesskit", "slirp4netns", "newuidmap", "unshare", "setpriv")
    READY = "API listen on"

    def _prepare(self) -> None:
        if not os.path.exists(SCRIPT):
            raise Missing(f"not installed: {SCRIPT}")
        self.data.mkdir(parents=True, exist_ok=True)
        for name in ("home", "run", "data"):
            (self.folder / name).mkdir(mode=0o700)
            os.chown(self.folder / name, USER, USER)
        os.chown(self.data, USER, USER)
        for name, line in {
            "passwd": f"tilth-test:x:{USER}:{USER}::{self.folder}/home:/bin/sh",
            "group": f"tilth-test:x:{USER}:",
        }.items():
            text = Path("/etc", name).read_text()
            (self.folder / name).write_text(f"{text}{line}\n")
        for name in ("subuid", "subgid"):
            Path("/etc", name).touch()
            (self.folder / name).write_text(f"tilth-test:{SUBORDINATE}\n")
        os.mknod(self.folder / "tun", 0o20666, os.makedev(10, 200))
        os.chmod(self.folder / "tun", 0o666)
        (self.folder / "start").write_text(ROOTLESS.format(script=SCRIPT))

    def _command(self) -> list[str]:
        words = [str(self.folder / "start"), str(self.folder), str(self.data), str(USER)]
        return ["unshare", "--mount", "sh", *words]
