"""Three nodes in containers: images, keys, genesis, up, the demo's job from outside, leaderboard.

    python deploy/demo.py            # everything, and down again at the end
    python deploy/demo.py --keep     # leaves the nodes up; --down FOLDER ends them

Needs a container engine with Compose, and this repository installed (`make demo` does that). The
three hospitals' keys are made in their own volumes and stay there, but for the admins' seeds, which
the persons of the demo sign with.
"""

import argparse
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
SESSION = ROOT / "node" / "tilth_node" / "demo" / "user-code" / "session.py"
TILTH = [sys.executable, "-m", "tilth.cli"]
NAMES = ("hospital-a", "hospital-b", "hospital-c")
PORTS = {"hospital-a": "TILTH_PORT_A", "hospital-b": "TILTH_PORT_B", "hospital-c": "TILTH_PORT_C"}
_VOLUMES = ("volume", "ls", "-q")
IMAGES = {
    "tilth-node": ("deploy/node.Dockerfile", "."),
    "tilth-task": ("deploy/task.Dockerfile", "deploy"),
}


class Compose:
    """The three nodes of one folder, as a Compose project of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        facts = folder / "compose.json"
        if not facts.exists():
            facts.write_text(json.dumps(settings(folder, _address())))
        self.settings: dict[str, str] = json.loads(facts.read_bytes())
        self.environment = {**os.environ, **self.settings}
        self._command = _compose()

    def __call__(self, *words: str, given: bytes = b"") -> bytes:
        """Run a Compose command; what it printed. What goes wrong is shown in its own words."""
        done = subprocess.run(
            [*self._command, "-f", str(ROOT / "deploy" / "compose.yaml"), *words],
            input=given,
            env=self.environment,
            capture_output=True,
            check=False,
        )
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(words)}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout

    def address(self, name: str) -> str:
        """Where clients reach a node."""
        return f"127.0.0.1:{self.settings[PORTS[name]]}"

    def found(self) -> None:
        """Keys in each volume, the genesis from the public member files, and joined."""
        self("up", "--no-start", *NAMES)  # networks and volumes, so that what follows may overlap
        files = [self.folder / f"{name}.json" for name in NAMES]
        with ThreadPoolExecutor() as pool:
            for file, content in zip(files, pool.map(self._init, NAMES), strict=True):
                file.write_bytes(content)
        genesis = self.folder / "genesis.json"
        members = [f"--member={file}" for file in files]
        made = [*TILTH, "network", "new", "--name=compose", *members, f"--out={genesis}"]
        subprocess.run(made, check=True, stdout=subprocess.DEVNULL)
        with ThreadPoolExecutor() as pool:
            seeds = pool.map(lambda name: self._join(name, genesis.read_bytes()), NAMES)
            for name, seed in zip(NAMES, seeds, strict=True):
                keys = self.folder / name / "keys"
                keys.mkdir(parents=True, exist_ok=True)
                (keys / "admin.seed").write_bytes(seed)
                (keys / "admin.seed").chmod(0o600)

    def up(self) -> None:
        """Return when the three are healthy."""
        self("up", "-d", *NAMES)
        self("run", "--rm", "-T", "healthy")

    def down(self) -> None:
        """Containers, networks and volumes go, and what the nodes kept on the engine for a next
        life: code and samples in volumes, each with a container that never runs."""
        self("down", "--volumes", "--remove-orphans")
        genesis = self.folder / "genesis.json"
        net = hashlib.sha256(genesis.read_bytes()).hexdigest()[:8] if genesis.exists() else ""
        for label in (f"org.tilth.node=tilth-{name}-{net}" for name in NAMES if net):
            for found, remove in ((("ps", "-aq"), ("rm", "-f")), (_VOLUMES, ("volume", "rm"))):
                if left := self._docker(*found, "--filter", f"label={label}").split():
                    self._docker(*remove, *left)

    def _docker(self, *words: str) -> str:
        """What the docker command printed."""
        command = ["docker", *words]
        done = subprocess.run(command, env=self.environment, stdout=subprocess.PIPE, check=True)
        return done.stdout.decode()

    def _init(self, name: str) -> bytes:
        words = [
            *("tilth node init /data --organization", name, "--host 0.0.0.0 --aggregates"),
            *("--peer-port 7001 --peer-address", f"{name}.consortium:7001"),
            *("--client-port 7002 --client-address", self.address(name)),
            *("--data-root", f"{self.folder}/{name}/data >&2"),
            # An engine that is late must not send tasks to a sandbox that cannot hold in here.
            "&& sed -i 's/^runtime = .*/runtime = \"docker\"/' /data/node.toml",
            "&& cat /data/member.json",
        ]
        return self._once(name, " ".join(words))

    def _join(self, name: str, genesis: bytes) -> bytes:
        """Join; the admin's seed."""
        words = "cat >/tmp/genesis.json && tilth node join /data /tmp/genesis.json >&2"
        return self._once(name, f"{words} && cat /data/keys/admin.seed", given=genesis)

    def _once(self, name: str, words: str, given: bytes = b"") -> bytes:
        run = ("run", "--rm", "-T", "--no-deps", "--entrypoint", "sh", name, "-c", words)
        return self(*run, given=given)


def build(engine: str = "docker") -> None:
    """Make the images that are not there."""
    for tag, (file, context) in IMAGES.items():
        here = subprocess.run([engine, "image", "inspect", tag], capture_output=True, check=False)
        if here.returncode != 0:
            print(f"building {tag} ...", flush=True)
            # The default network of builds may not exist on an engine without a bridge.
            words = ["build", "--network=host", "-q", "-t", tag, "-f", file, context]
            built = subprocess.run(
                [engine, *words], cwd=ROOT, check=False, stdout=subprocess.DEVNULL
            )
            if built.returncode != 0:
                raise SystemExit(f"{tag} was not built: the lines above say why")


def job(compose: Compose, rounds: int) -> dict[str, object]:
    """The demo's session on the three nodes, through the SDK from outside; its results."""
    orders = {
        "addresses": {name: compose.address(name) for name in NAMES},
        "grade": "A",
        "rounds": rounds,
    }
    subprocess.run(
        [sys.executable, str(SESSION), str(compose.folder)],
        input=json.dumps(orders) + "\n",
        env=compose.environment | {"TILTH_HOME": str(compose.folder / "home")},
        text=True,
        check=True,
    )
    result: dict[str, object] = json.loads((compose.folder / "result.json").read_bytes())
    return result


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--keep", action="store_true", help="leave the nodes running")
    parser.add_argument("--down", type=Path, metavar="FOLDER", help="end what --keep left")
    parser.add_argument("--rounds", type=int, default=3, help="of each of the two algorithms")
    options = parser.parse_args()
    if options.down:
        if not (options.down / "compose.json").exists():
            raise SystemExit(f"{options.down} is not of nodes that --keep left: no compose.json")
        Compose(options.down).down()
        shutil.rmtree(options.down)
        return 0
    check_engine()
    build()
    folder = Path(tempfile.mkdtemp(prefix="tilth-compose-"))
    folder.chmod(0o755)  # the nodes' user reads the data below it
    compose = Compose(folder)
    try:
        compose.found()
        begun = time.monotonic()
        compose.up()
        print(f"three healthy nodes after {time.monotonic() - begun:.1f} s")
        job(compose, options.rounds)
        if options.keep:
            print(f"The nodes keep running: python deploy/demo.py --down {folder}")
    finally:
        if not options.keep:
            compose.down()
            shutil.rmtree(folder, ignore_errors=True)
    return 0


def check_engine() -> None:
    """Refuse, with what helps, where no engine with Compose answers on this machine."""
    address = _address()
    if not address.startswith("unix://"):
        raise SystemExit(
            f"the engine is not on this machine: DOCKER_HOST is {address}, and the nodes mount its "
            "socket; expected unix:///..."
        )
    if shutil.which("docker") is None:
        raise SystemExit("the docker command is not here: install docker.io and docker-compose")
    asked = subprocess.run(["docker", "version"], capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        words = asked.stderr.strip() or "no words"
        raise SystemExit(
            f"no container engine answers at {address}: {words}\n"
            "start one, or name its socket with DOCKER_HOST"
        )
    _compose()


def _address() -> str:
    return os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")


def _compose() -> list[str]:
    """Compose v2, or 1.29 where that is what there is."""
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    if plugin.returncode == 0:
        return ["docker", "compose"]
    if command := shutil.which("docker-compose"):
        return [command]
    raise SystemExit("Compose is not here: install docker-compose-v2, or docker-compose 1.29")


def settings(folder: Path, address: str) -> dict[str, str]:
    """What distinguishes this project: ports that are free, folder, the engine's socket."""
    path = address.removeprefix("unix://")
    held = [socket.socket() for _ in NAMES]
    for each in held:
        each.bind(("127.0.0.1", 0))
    ports = [str(each.getsockname()[1]) for each in held]
    for each in held:
        each.close()
    return {
        "COMPOSE_PROJECT_NAME": folder.name.replace("_", "").lower(),
        "DOCKER_SOCK": path,
        "DOCKER_GID": str(os.stat(path).st_gid),
        "TILTH_DATA": str(folder),
        **dict(zip(PORTS.values(), ports, strict=True)),
    }


if __name__ == "__main__":
    sys.exit(main())
