"""The three nodes of deploy/compose.yaml: the demo's job while one is cut off and one is killed."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from engine import ROOT, TASK, Engine
from lacking import required

sys.path.insert(0, str(ROOT / "deploy"))
import demo

# The first build of the node's image on an engine installs its requirements.
pytestmark = [pytest.mark.docker, pytest.mark.slow]


@pytest.fixture(scope="module")
def compose(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[demo.Compose]:
    """The three nodes, up; who cuts one off connects it again."""
    engine.start_if_ended()
    engine.clear()
    engine.build("tilth-node", "deploy/node.Dockerfile")
    place = tmp_path_factory.mktemp("compose")
    for folder in (place, *list(place.parents)[:2]):
        folder.chmod(0o755)  # the nodes' user reads the data below
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_HOST", engine.address)
        made = demo.Compose(place)
        made.found()
        made.up()
        yield made
        ends = [sys.executable, str(ROOT / "deploy" / "demo.py"), "--down", str(place)]
        subprocess.run(ends, check=True)
        assert not place.exists()
        for left in (("ps", "-aq"), ("volume", "ls", "-q")):
            assert engine.docker(*left, "--filter", "label=org.tilth.node") == ""


@contextmanager
def cut_off(engine: Engine, compose: demo.Compose, name: str) -> Iterator[str]:
    """Without a way to the other nodes; its container."""
    network = f"{compose.settings['COMPOSE_PROJECT_NAME']}_consortium"
    cut = container(engine, name)
    engine.docker("network", "disconnect", network, cut)
    try:
        yield cut
    finally:
        engine.docker("network", "connect", "--alias", f"{name}.consortium", network, cut)


def versions() -> list[list[str]]:
    """The Compose commands that are here: v2 as users have it, 1.29 as Debian 12 does."""
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    found = [["docker", "compose"]] if plugin.returncode == 0 else []
    return found + ([["docker-compose"]] if shutil.which("docker-compose") else [])


def container(engine: Engine, name: str) -> str:
    return engine.docker("ps", "-q", "--filter", f"label=com.docker.compose.service={name}")


def step_starts(engine: Engine, site: str, since: float) -> Generator[str, None, None]:
    """Names of a site's steps as their containers start, from a time on (seconds since 1970)."""
    words = ["docker", "events", "--since", f"{since:.3f}", "--filter", "event=start"]
    words += ["--filter", "label=org.tilth.kind=step", "--format", "{{.Actor.Attributes.name}}"]
    with subprocess.Popen(
        words, env=engine.environment, stdout=subprocess.PIPE, text=True
    ) as events:
        assert events.stdout is not None
        try:
            yield from (line for line in events.stdout if f"-{site}-" in line)
        finally:
            events.kill()


def test_the_job_completes_although_one_node_is_cut_off_and_one_is_killed(
    engine: Engine, compose: demo.Compose
) -> None:
    begun = time.time()
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(demo.job, compose, 1)
        # The first step after the self-test's own: the plan is under way.
        steps = step_starts(engine, "hospital-c", begun)
        for _ in range(4):
            next(steps)
        steps.close()
        with cut_off(engine, compose, "hospital-c"):
            killed = container(engine, "hospital-b")
            pid = engine.docker("inspect", "-f", "{{.State.Pid}}", killed)
            os.kill(int(pid), signal.SIGKILL)  # `docker kill` would count as wanted: no restart
            compose.up()  # returns when all three are healthy again, the cut one too
        result: dict[str, Any] = job.result()
    boards = {json.dumps(board, sort_keys=True) for board in result["boards"].values()}
    assert len(boards) == 1
    assert engine.docker("inspect", "-f", "{{.State.Pid}}", killed) not in ("0", pid)
    for name in result["boards"]:
        audit = ("tilth", "audit", "/data", "--json")
        report = json.loads(engine.docker("exec", container(engine, name), *audit))
        assert report["findings"] == []


def test_a_node_s_container_has_a_user_and_no_rights(engine: Engine, compose: demo.Compose) -> None:
    node = container(engine, "hospital-a")
    (facts,) = json.loads(engine.docker("inspect", node))
    status = engine.docker("exec", node, "cat", "/proc/1/status", "/proc/self/status")
    assert engine.docker("exec", node, "id", "-u") == facts["Config"]["User"].split(":")[0]
    assert facts["Config"]["User"] == "10001:10001"
    assert facts["Config"]["Healthcheck"]["Test"] == ["CMD", "tilth", "node", "health", "/data"]
    assert facts["HostConfig"]["ReadonlyRootfs"]
    assert set(re.findall(r"Cap(?:Prm|Eff|Bnd):\s*(\w+)", status)) == {"0" * 16}
    assert set(re.findall(r"NoNewPrivs:\s*(\d)", status)) == {"1"}
    with pytest.raises(AssertionError, match="is not the folder of a node"):
        engine.docker("exec", node, "tilth", "node", "health", "/tmp")


def test_both_generations_of_compose_take_the_file(engine: Engine, tmp_path: Path) -> None:
    engine.start_if_ended()
    values = {**engine.environment, **demo.settings(tmp_path, engine.address)}
    for generation, command in enumerate(versions()):
        project = {
            "COMPOSE_PROJECT_NAME": f"tilth-generation-{generation}",
            "TILTH_NODE_IMAGE": TASK,
        }
        for words in (["config", "-q"], ["up", "--no-start"], ["down", "--volumes"]):
            done = subprocess.run(
                [*command, "-f", str(ROOT / "deploy" / "compose.yaml"), *words],
                env=values | project,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not required(), reason="a user may have one of them only")
def test_ci_has_both_generations_of_compose_and_uses_the_newer_one(tmp_path: Path) -> None:
    assert versions() == [["docker", "compose"], ["docker-compose"]]


def test_a_node_that_is_cut_off_still_answers_its_own_clients(
    engine: Engine, compose: demo.Compose
) -> None:
    from tilth.transport import Transport
    from tilth_ledger.genesis import Genesis
    from tilth_ledger.keys import SigningKey

    genesis = Genesis.parse((compose.folder / "genesis.json").read_bytes())
    seed = (compose.folder / "hospital-a" / "keys" / "admin.seed").read_text().strip()
    transport = Transport(
        compose.address("hospital-a"),
        "hospital-a",
        genesis.net,
        SigningKey.from_seed(bytes.fromhex(seed)),
        genesis.members[0].tls_authority.encode(),
    )
    with cut_off(engine, compose, "hospital-a"):
        assert transport.get_row("organization/hospital-a") is not None
    transport.close()
