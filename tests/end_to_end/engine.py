"""A private container engine for tests: its own socket, data and processes, stopped at the end.

    with Engine() as engine:        # or the fixture `engine`
        engine.start()
        os.environ["DOCKER_HOST"] = engine.address

Images (the stand-in for python:3.11-slim, and tilth-task on top of it) are made once and kept as
one archive below ~/.cache/tilth (or $TILTH_CACHE), in a folder named by the content they are made
from. Beside it are engines' data folders, each used by one engine at a time: an engine takes the
first that is free. `python3 engine.py 2` only makes the images, for two engines. Standard library
only, because CI runs it before anything is installed.
"""

import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[2]
BASE, TASK = "python:3.11-slim", "tilth-task"
MAKERS = (ROOT / ".ci" / "base-image", ROOT / "deploy" / "task.Dockerfile")
PROGRAMS = ("dockerd", "containerd", "docker", "mmdebstrap", "setpriv")
# Put before a program: it is asked to end when the process that started it is gone, however that
# ended. A run whose workers are killed, as an interrupted one on a busy machine, leaves no engine.
ENDS_WITH_US = ("setpriv", "--pdeathsig", "TERM")
READY = "API listen on"
STOP_SECONDS = 300
STARTS = 3  # dockerd gives up when its containerd takes more than 15 seconds to start


class Missing(Exception):
    """This machine cannot run an engine; the message says why."""


def why_not() -> str:
    """Why this machine cannot run an engine, in plain words; empty when it can."""
    if os.geteuid() != 0:
        return "an engine of its own needs root"
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"not installed: {', '.join(absent)}" if absent else ""


def cache() -> Path:
    """Where engines keep their images: one folder per content."""
    content = hashlib.sha256(b"".join(path.read_bytes() for path in MAKERS)).hexdigest()[:12]
    home = os.environ.get("TILTH_CACHE") or Path.home() / ".cache" / "tilth"
    return Path(home) / f"engine-{content}"


def free_data() -> tuple[Path, IO[str]]:
    """The first data folder that no other engine uses, and its lock."""
    for number in count():
        folder = cache() / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return folder, lock
        except BlockingIOError:
            lock.close()
    raise AssertionError("numbers have no end")


def held(folder: Path) -> tuple[Path, IO[str]]:
    """A data folder of the caller's own, and its lock."""
    folder.mkdir(parents=True)
    return folder, (folder / "lock").open("w")


class Engine:
    """One engine. It may be killed and started again."""

    def __init__(self, data: Path | None = None) -> None:
        """`data`: a new folder instead of one that has the images."""
        if reason := why_not():
            raise Missing(reason)
        self.folder = Path(tempfile.mkdtemp(prefix="tilth-engine-"))
        self.data, self._lock = held(data) if data else free_data()
        self.address = f"unix://{self.folder}/docker.sock"
        self.environment = {**os.environ, "DOCKER_HOST": self.address, "DOCKER_BUILDKIT": "0"}
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._unmount()
        self._lock.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Return when it answers."""
        for _ in range(STARTS):
            if self._answers():
                return
            self.stop()
        words = (self.folder / "log").read_text()[-1500:]
        raise Missing(f"dockerd does not start: {words}")

    def _answers(self) -> bool:
        """Start its process; whether it came to answer."""
        log = self.folder / "log"
        read, write = os.pipe()
        self.process = subprocess.Popen(
            [
                *ENDS_WITH_US,
                "dockerd",
                *("--host", self.address, "--data-root", str(self.data / "data")),
                *("--exec-root", str(self.folder / "exec")),
                *("--pidfile", str(self.folder / "pid")),
                # The host's firewall and bridges are not touched.
                *("--iptables=false", "--ip6tables=false", "--bridge=none"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=write,
            stderr=write,
            start_new_session=True,
            # The data folder stays taken until the engine and its containers have ended too.
            pass_fds=(self._lock.fileno(),),
        )
        os.close(write)
        with open(read, "rb") as said, log.open("ab") as kept:
            for line in said:
                kept.write(line)
                if READY.encode() in line:
                    # From here on nobody reads: hand the pipe to a process that keeps it.
                    self._drain = subprocess.Popen(["cat"], stdin=said, stdout=kept)
                    return True
        return False

    def start_if_ended(self) -> None:
        """Start it when a test has killed it."""
        if self.process is None:
            self.start()

    def kill(self) -> None:
        """SIGKILL, as a crash does; its containers run on until the next start ends them."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None
        self._end_containerd()

    def stop(self) -> None:
        """End it and everything that it started."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
            self.process = None
        self._end_containerd()

    def docker(self, *words: str, **more: object) -> str:
        """Run the docker command; what it printed."""
        done = subprocess.run(
            ["docker", *words], env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def has(self, image: str) -> bool:
        """Whether an image is here."""
        return bool(self.docker("image", "ls", "-q", image))

    def make_images(self) -> None:
        """The stand-in for the base image, and the image of tasks; nothing when they are there."""
        if self.has(BASE) and self.has(TASK):
            return
        archive = cache() / "images.tar"
        with (cache() / "images.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # of two engines that start cold, one makes them
            if not archive.exists():
                self._run(str(MAKERS[0]), BASE)
                self.build(TASK, "deploy/task.Dockerfile", "deploy")
                new = archive.with_suffix(".new")
                self.docker("save", "-o", str(new), BASE, TASK)
                new.replace(archive)
        self.docker("load", "-i", str(archive))

    def build(self, tag: str, file: str, context: str = ".") -> None:
        """Build an image of the repository."""
        self._run("docker", "build", "--network=host", "-t", tag, "-f", file, context)

    def forget(self, image: str) -> None:
        """Remove an image, if it is here."""
        if self.has(image):
            self.docker("image", "rm", "-f", image)

    def clear(self) -> None:
        """Remove all containers and volumes; images stay."""
        for name in self.docker("ps", "-aq").split():
            self._remove(name)
        for name in self.docker("volume", "ls", "-q").split():
            self.docker("volume", "rm", name)

    def _remove(self, name: str) -> None:
        """Return when a container is gone; a node that just ended may have asked for it too."""
        words = ["docker", "rm", "-f", name]
        told = subprocess.run(words, env=self.environment, capture_output=True, text=True).stderr
        if "already in progress" in told:
            words = ["docker", "events", "--since", "1h", "--filter", "event=destroy"]
            words += ["--filter", f"container={name}"]
            with subprocess.Popen(words, env=self.environment, stdout=subprocess.PIPE) as events:
                assert events.stdout is not None
                events.stdout.readline()
                events.kill()
        else:
            assert not told or "No such container" in told, told

    def _run(self, *words: str) -> None:
        done = subprocess.run(
            words, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise Missing(f"{' '.join(words)}: {(done.stdout + done.stderr)[-1500:]}")

    def _unmount(self) -> None:
        """An engine, a killed one above all, leaves mounts of its namespaces and its data."""
        mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        mine = [each for each in mounts if each.startswith((f"{self.folder}/", f"{self.data}/"))]
        for each in reversed(mine):
            subprocess.run(["umount", "-l", each], check=False)

    def _end_containerd(self) -> None:
        """A killed engine leaves the process that it started for its containers."""
        pid = self.folder / "exec" / "containerd" / "containerd.pid"
        if pid.exists():
            number = int(pid.read_text())
            words = Path(f"/proc/{number}/cmdline")
            if words.exists() and str(self.folder).encode() in words.read_bytes():
                os.kill(number, signal.SIGKILL)
            # Where nobody collects orphans the number stays taken, and would pass for alive.
            pid.unlink()


if __name__ == "__main__":
    try:
        with ExitStack() as all_of_them:
            for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 1):
                made = all_of_them.enter_context(Engine())
                made.start()
                made.make_images()
                sys.stdout.write(f"{BASE} and {TASK} are in {made.data}\n")
    except Missing as missing:
        sys.exit(f"no engine: {missing}")
