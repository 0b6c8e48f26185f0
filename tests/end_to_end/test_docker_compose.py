"""The three nodes of deploy/compose.yaml: the demo's job while one is cut off and one is killed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from engine import ROOT, Engine

sys.path.insert(0, str(ROOT / "deploy"))
import demo

# The first build of the node's image on an engine installs its requirements.
pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def compose(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[demo.Compose]:
    engine.start_if_ended()
    engine.clear()
    engine.build("tilth-node", "deploy/node.Dockerfile")
    monkeypatch.setenv("DOCKER_HOST", engine.address)
    for folder in (tmp_path, *list(tmp_path.parents)[:2]):
        folder.chmod(0o755)  # the nodes' user reads the data below
    made = demo.Compose(tmp_path)
    made.found()
    made.up()
    yield made
    made.down()


def container(engine: Engine, name: str) -> str:
    return engine.docker("ps", "-q", "--filter", f"label=com.docker.compose.service={name}")


def step_starts(engine: Engine, site: str) -> Generator[str, None, None]:
    """Names of a site's steps as their containers start."""
    words = ["docker", "events", "--since", "1h", "--filter", "event=start"]
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
    network = f"{compose.settings['COMPOSE_PROJECT_NAME']}_consortium"
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(demo.job, compose, 1)
        # The first step after the self-test's own: the plan is under way.
        steps = step_starts(engine, "hospital-c")
        for _ in range(4):
            next(steps)
        steps.close()
        cut = container(engine, "hospital-c")
        engine.docker("network", "disconnect", network, cut)
        killed = container(engine, "hospital-b")
        pid = engine.docker("inspect", "-f", "{{.State.Pid}}", killed)
        os.kill(int(pid), signal.SIGKILL)  # `docker kill` would count as wanted: no restart
        compose.up()  # returns when all three are healthy again, the cut one too
        engine.docker("network", "connect", "--alias", "hospital-c.consortium", network, cut)
        result: dict[str, Any] = job.result()
    boards = {json.dumps(board, sort_keys=True) for board in result["boards"].values()}
    assert len(boards) == 1
    assert engine.docker("inspect", "-f", "{{.State.Pid}}", killed) not in ("0", pid)


def test_a_node_that_is_cut_off_still_answers_its_own_clients(
    engine: Engine, compose: demo.Compose
) -> None:
    network = f"{compose.settings['COMPOSE_PROJECT_NAME']}_consortium"
    cut = container(engine, "hospital-a")
    engine.docker("network", "disconnect", network, cut)
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
    assert transport.get_row("organization/hospital-a") is not None
    transport.close()
