"""Environments as images on a real engine: built once, refused when they changed."""

import asyncio
import hashlib
import json
import os
import subprocess
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import pytest
from container_steps import run, runtime, spec
from engine import Engine
from small_disk import small_disk

from tilth_node.runtimes import (
    Environment,
    EnvironmentMissing,
    NodeFault,
    Shipped,
    approved,
    building,
    images,
)
from tilth_node.runtimes.building import BuildSettings
from tilth_node.runtimes.docker import Docker, EngineSettings
from tilth_node.runtimes.engine import Engine as Connection
from tilth_node.runtimes.engine import EngineFault
from tilth_node.runtimes.imagefile import ImageFacts

pytestmark = pytest.mark.docker


@pytest.fixture
async def docker(engine: Engine, tmp_path: Path) -> AsyncIterator[Docker]:
    made = runtime(engine, tmp_path)
    yield made
    await made.close()


async def test_a_dockerfile_builds_on_the_base_that_its_environment_names_by_digest(
    engine: Engine, docker: Docker, tmp_path: Path
) -> None:
    base = engine.docker("image", "inspect", "-f", "{{.Id}}", "tilth-task")
    dockerfile = b"ARG BASE\nFROM ${BASE}\nUSER 0:0\nCOPY requirements.txt say.sh /\nRUN /say.sh\n"
    files = {"Dockerfile": dockerfile, "say.sh": b"#!/bin/sh\ncat /requirements.txt > /said\n"}
    wanted = Environment(
        "8" * 64, base=f"tilth-task@{base}", files=files | {"requirements.txt": b"quern"}
    )
    engine.forget(f"tilth-environment:{'8' * 32}")
    await docker.offer(wanted)
    reads = replace(spec(tmp_path, "print(open('/said').read())"), environment=wanted)
    assert (await run(docker, reads)).log == b"quern\n"
    other = replace(wanted, digest="7" * 64, base=f"tilth-task@sha256:{'0' * 64}")
    with pytest.raises(EnvironmentMissing, match=r"another one than the environment names.*0000"):
        await docker.offer(other)


async def test_a_base_image_that_is_not_here_is_named_with_its_remedy(
    engine: Engine, tmp_path: Path
) -> None:
    docker = runtime(engine, tmp_path, base="no-such-image:1")
    with pytest.raises(NodeFault, match=r"docker pull no-such-image:1"):
        await docker.offer(Environment("a" * 64, ("numpy",)))
    with pytest.raises(EnvironmentMissing, match="is not on this engine"):
        await docker.offer(Environment("ba" * 32, base="theirs:2"))
    await docker.close()


async def test_requirements_that_need_the_network_where_it_is_forbidden_fail_with_the_log(
    docker: Docker,
) -> None:
    wanted = Environment("c" * 64, ("a-package-that-is-not-there==1",))
    with pytest.raises(EnvironmentMissing, match=r"(?s)without network.*build_network") as failure:
        await docker.offer(wanted)
    assert b"a-package-that-is-not-there" in failure.value.log


async def test_a_build_reaches_the_network_only_where_the_operator_allows_it(
    engine: Engine, docker: Docker, tmp_path: Path
) -> None:
    with HTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        fetch = f"import urllib.request as u; u.urlopen('{address}', timeout=200).read()"
        dockerfile = f'FROM tilth-task\nRUN python -c "{fetch}"\n'
        wanted = Environment("d" * 64, files={"Dockerfile": dockerfile.encode()})
        with pytest.raises(EnvironmentMissing, match=r"(?s)without network.*build_network"):
            await docker.offer(wanted)
        allowed = runtime(engine, tmp_path / "allowed", network="host")
        await allowed.offer(wanted)
        await allowed.close()
        engine.forget(f"tilth-environment:{'d' * 32}")


@pytest.mark.parametrize("words", ["sleep 60", "while :; do echo more; done"])
async def test_a_build_that_never_ends_is_ended_and_holds_up_no_other(
    engine: Engine, tmp_path: Path, words: str
) -> None:
    endless = Environment("1" * 64, files={"Dockerfile": f"FROM tilth-task\nRUN {words}".encode()})
    plain = Environment("ab" * 32, files={"Dockerfile": b"FROM tilth-task\n"})
    seconds, offered = 1, False
    while not offered:  # a second may be too short for the other too, on a busy machine
        docker = runtime(engine, tmp_path, seconds=seconds)
        building = asyncio.create_task(docker.offer(endless))
        with suppress(EnvironmentMissing):
            await docker.offer(plain)
            offered = True
        said = rf"(?s)too long.*at most {seconds} s.*build_seconds"
        with pytest.raises(EnvironmentMissing, match=said):
            await building
        await docker.close()
        all_end(engine)
        seconds *= 3


def all_end(engine: Engine) -> None:
    """Return when no container runs: an engine ends a build that nobody follows."""
    for name in engine.docker("ps", "-q").split():
        wait = ["docker", "wait", name]
        subprocess.run(wait, env=engine.environment, capture_output=True, check=False, timeout=200)


async def test_a_dockerfile_on_an_image_that_is_not_here_is_not_pulled(docker: Docker) -> None:
    wanted = Environment("e" * 64, files={"Dockerfile": b"FROM somebody/elses:image\n"})
    with pytest.raises(EnvironmentMissing, match=r"docker pull somebody/elses:image"):
        await docker.offer(wanted)


async def test_a_lock_is_built_from_the_operator_s_wheels_and_from_no_others(
    engine: Engine, tmp_path: Path
) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    wheel = wheels / "quern-1.0-py3-none-any.whl"
    write_wheel(wheel)
    docker = runtime(engine, tmp_path, wheels=wheels)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    wanted, other = (
        Environment(name * 64, ("quern",), lock=f"quern==1.0 --hash=sha256:{of}".encode())
        for name, of in (("f", digest), ("0", "0" * 64))
    )
    engine.forget(f"tilth-environment:{'f' * 32}")
    await docker.offer(wanted)
    step = replace(spec(tmp_path, "import quern; print(quern.WORD)"), environment=wanted)
    assert (await run(docker, step)).log == b"ground\n"
    with pytest.raises(EnvironmentMissing) as failure:
        await docker.offer(other)
    assert b"DO NOT MATCH THE HASHES" in failure.value.log
    await docker.close()


async def test_an_image_that_changed_since_it_was_built_is_refused(
    engine: Engine, tmp_path: Path
) -> None:
    environment = Environment("9" * 64, ("numpy",))
    tag = f"tilth-environment:{'9' * 32}"
    first = runtime(engine, tmp_path)
    await first.offer(environment)
    await first.close()
    agreed = json.loads((tmp_path / "engine" / "images.json").read_bytes())["9" * 64]
    engine.docker("image", "rm", "-f", agreed)
    engine.docker("tag", "tilth-task", tag)
    second = runtime(engine, tmp_path)
    with pytest.raises(EnvironmentMissing, match="not the one that was built for it"):
        await second.offer(environment)
    await second.close()
    engine.docker("image", "rm", tag)


def write_wheel(path: Path) -> None:
    """A wheel with one module."""
    import zipfile

    info = "quern-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("quern.py", "WORD = 'ground'\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: quern\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", f"quern.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n")


async def test_an_image_that_declares_a_volume_is_refused_because_nothing_bounds_it(
    engine: Engine, docker: Docker
) -> None:
    """Regression: each step left a volume with a copy of the image's files on the engine."""
    dockerfile = b"FROM tilth-task\nUSER 0:0\nRUN mkdir -m 777 /hole\nVOLUME /hole\n"
    wanted = Environment("2" * 64, files={"Dockerfile": dockerfile})
    engine.forget(f"tilth-environment:{'2' * 32}")
    with pytest.raises(EnvironmentMissing, match=r"declares volumes.*/hole.*without VOLUME"):
        await docker.offer(wanted)


# -- images that travel


SMALL = "python:3.11-slim"
QUERN = {"Dockerfile": b"ARG BASE\nFROM $BASE\nCOPY quern.py /\n", "quern.py": b"WORD = 'ground'\n"}
TRAVELS = Environment("6" * 64, base=SMALL, files=QUERN)


@pytest.fixture(scope="module")
def exported(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ImageFacts]:
    """An image that one node built, as a file; the engine has it no more."""
    folder = tmp_path_factory.mktemp("exported")
    settings = BuildSettings()
    at = Connection(engine.address)
    image = at.now(lambda api: building.build(TRAVELS, settings, api))
    facts = at.now(lambda api: images.save(image, folder / "image.tar", api))
    assert (facts.id, facts.environment) == (image, TRAVELS.digest)
    assert [each.name for each in folder.iterdir()] == ["image.tar"]
    engine.docker("image", "rm", "-f", image)
    at.close()
    return folder / "image.tar", facts


def offering(path: Path, facts: ImageFacts, **changes: str) -> tuple[Environment, images.Fetch]:
    """The environment with an offer of hospital-a, and how its file is had."""
    size = path.stat().st_size
    shipped = replace(Shipped("hospital-a", facts.image, "f" * 64, size), **changes)

    @asynccontextmanager
    async def fetch(_: Shipped) -> AsyncIterator[Path]:
        yield path

    return replace(TRAVELS, base="not-here:1", images=(shipped,)), fetch


def away(engine: Engine, folder: Path, fetch: images.Fetch | None, *images_from: str) -> Docker:
    """A node that could not build: it takes images of those whom its operator named."""
    settings = EngineSettings(engine.address, BuildSettings(images_from=images_from))
    return Docker("tilth-away", settings, folder / "engine", fetch=fetch)


async def test_an_image_of_a_named_organization_runs_where_it_cannot_be_built(
    engine: Engine, tmp_path: Path, exported: tuple[Path, ImageFacts]
) -> None:
    wanted, fetch = offering(*exported)
    engine.forget(f"tilth-environment:{'6' * 32}")
    node = away(engine, tmp_path, fetch, "hospital-b", "hospital-a")
    code = "import sys; sys.path.append('/'); import quern; print(quern.WORD)"
    result = await run(node, replace(spec(tmp_path, code), environment=wanted))
    assert (result.log, result.image) == (b"ground\n", exported[1].id)
    await node.close()


async def test_an_approved_image_runs_or_nothing_does(
    engine: Engine, tmp_path: Path, exported: tuple[Path, ImageFacts]
) -> None:
    path, facts = exported
    engine.forget(f"tilth-environment:{'6' * 32}")
    wanted, fetch = offering(path, facts)
    place = tmp_path / "engine" / approved.FILE
    nobody = away(engine, tmp_path, fetch)
    with pytest.raises(EnvironmentMissing, match="docker pull not-here:1"):
        await nobody.offer(wanted)  # offered, but nobody's word lets it in
    approved.approve(place, TRAVELS.digest, facts.image)
    await nobody.offer(wanted)  # the operator's word counts at once
    approved.approve(place, TRAVELS.digest, "5" * 64)
    with pytest.raises(EnvironmentMissing, match=r"not the one.*operator approved.*5555"):
        await nobody.offer(wanted)
    engine.docker("image", "rm", "-f", facts.id)
    with pytest.raises(NodeFault, match=r"approved.*not on this engine.*image import"):
        await nobody.offer(wanted)
    # Rebuilt or put under its name by somebody: another id, so it does not run.
    engine.docker("tag", SMALL, f"tilth-environment:{'6' * 32}")
    with pytest.raises(EnvironmentMissing, match="operator approved"):
        await nobody.offer(replace(wanted, images=()))
    engine.docker("image", "rm", f"tilth-environment:{'6' * 32}")
    await nobody.close()


async def test_an_image_that_is_not_what_was_stated_never_reaches_the_engine(
    engine: Engine, tmp_path: Path, exported: tuple[Path, ImageFacts]
) -> None:
    path, facts = exported
    engine.forget(facts.id)
    wanted, fetch = offering(path, facts, image="4" * 64)
    node = away(engine, tmp_path, fetch, "hospital-a")
    with pytest.raises(EnvironmentMissing, match=r"hospital-a offers is not what it states.*4444"):
        await node.offer(wanted)
    broken = tmp_path / "broken.tar"
    broken.write_bytes(path.read_bytes()[:-4_096] + bytes(3_072) + bytes(1_024))
    wanted, fetch = offering(broken, facts)
    other = away(engine, tmp_path / "other", fetch, "hospital-a")
    with pytest.raises(EnvironmentMissing, match="not what it states"):
        await other.offer(wanted)
    assert not engine.has(facts.id)
    await node.close()
    await other.close()


async def test_a_full_image_store_is_waited_out_and_leaves_nothing_half_done(
    engine: Engine, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", 64) as disk, Engine(tmp_path / "disk" / "engine") as small:
        small.start()
        ballast = os.urandom(10 << 20)
        made_of = {"Dockerfile": b"FROM scratch\nCOPY big /big\n", "big": ballast}
        wanted = Environment("3" * 64, files=made_of)
        node = runtime(small, tmp_path)
        disk.fill(leave=8 << 20)
        with pytest.raises(NodeFault, match=r"disk is full.*docker image prune"):
            await node.offer(wanted)
        assert not (tmp_path / "engine" / images.RECORD).exists()
        disk.empty()
        await node.offer(wanted)
        at = Connection(small.address)
        (image,) = images.recorded(tmp_path / "engine" / images.RECORD).values()
        facts = at.now(lambda api: images.save(image, tmp_path / "image.tar", api))
        at.now(lambda api: images.save(image, tmp_path / "again.tar", api))
        files = [(tmp_path / name).read_bytes() for name in ("image.tar", "again.tar")]
        assert files[0] == files[1]
        small.docker("image", "rm", "-f", facts.id)
        disk.fill(leave=8 << 20)
        with pytest.raises(EngineFault, match="disk is full"):
            at.now(lambda api: images.load(tmp_path / "image.tar", "", "", api))
        assert not small.has(facts.id)
        disk.empty()
        assert at.now(lambda api: images.load(tmp_path / "image.tar", "", "", api)) == facts
        at.close()
        await node.close()
