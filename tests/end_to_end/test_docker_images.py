"""Environments as images on a real engine: built once, refused when they changed."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from container_steps import run, runtime, spec
from engine import Engine

from tilth_node.runtimes import Environment, EnvironmentMissing, NodeFault
from tilth_node.runtimes.docker import Docker

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
        await docker.offer(Environment("b" * 64, base="theirs:2"))
    await docker.close()


async def test_requirements_that_need_the_network_where_it_is_forbidden_fail_with_the_log(
    docker: Docker,
) -> None:
    wanted = Environment("c" * 64, ("a-package-that-is-not-there==1",))
    with pytest.raises(EnvironmentMissing, match=r"(?s)without network.*build_network") as failure:
        await docker.offer(wanted)
    assert b"a-package-that-is-not-there" in failure.value.log


async def test_a_dockerfile_that_reaches_for_the_network_fails(docker: Docker) -> None:
    fetch = "import urllib.request as u; u.urlopen('http://example.org', timeout=2)"
    dockerfile = f'FROM tilth-task\nRUN python -c "{fetch}"\n'
    wanted = Environment("d" * 64, files={"Dockerfile": dockerfile.encode()})
    with pytest.raises(EnvironmentMissing, match="without network"):
        await docker.offer(wanted)


async def test_a_dockerfile_on_an_image_that_is_not_here_is_not_pulled(docker: Docker) -> None:
    wanted = Environment("e" * 64, files={"Dockerfile": b"FROM somebody/elses:image\n"})
    with pytest.raises(EnvironmentMissing, match=r"docker pull somebody/elses:image"):
        await docker.offer(wanted)


async def test_wheels_of_the_operator_are_enough_without_network(
    engine: Engine, tmp_path: Path
) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    write_wheel(wheels / "quern-1.0-py3-none-any.whl")
    docker = runtime(engine, tmp_path, wheels=wheels)
    wanted = Environment("f" * 64, ("quern==1.0",))
    engine.forget(f"tilth-environment:{'f' * 32}")
    await docker.offer(wanted)
    with_code = spec(tmp_path, "import quern; print(quern.WORD)")
    step = type(with_code)(
        with_code.step, with_code.collect, with_code.mounts, {}, environment=wanted
    )
    assert (await run(docker, step)).log == b"ground\n"
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
