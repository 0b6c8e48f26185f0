"""Podman, and Docker without root: graded by what really holds, and what does not is named."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import docker
import pytest
from container_steps import run, runtime, spec
from lacking import lacks
from other_engines import Podman, Rootless

from tilth_node.runtimes import Check, Reason, selftest

pytestmark = pytest.mark.docker


def missing(checks: Sequence[Check]) -> set[str]:
    return {check.name for check in checks if not check.holds}


def said(checks: Sequence[Check], name: str) -> str:
    return next(check.detail for check in checks if check.name == name)


async def test_podman_holds_every_wall_but_does_not_tell_when_memory_ran_out(
    podman: Podman, tmp_path: Path
) -> None:
    docker = runtime(podman, tmp_path)
    checks = await selftest.proof(docker)
    await docker.close()
    assert missing(checks) == {"the engine tells when memory ran out"}
    assert selftest.grade_of(checks) == "B"
    assert said(checks, "the engine").startswith("Podman Engine 4.")


async def test_podman_brings_outputs_back_and_leaves_nothing(
    podman: Podman, tmp_path: Path
) -> None:
    docker = runtime(podman, tmp_path)
    code = "os.makedirs('out/model'); open('out/model/w', 'w').write('42'); print('hello')"
    result = await run(docker, spec(tmp_path, code))
    forever = spec(tmp_path, "__import__('time').sleep(600)", "late", wall_ms=1_500)
    late = await run(docker, forever)
    await docker.close()
    assert (result.reason, result.log) == (None, b"hello\n")
    assert (result.outputs["out/model"] / "w").read_text() == "42"
    assert late.reason is Reason.TIME
    assert podman.docker("ps", "-aq", "--filter", "label=org.tilth.kind=step") == ""
    assert podman.docker("volume", "ls", "-q", "--filter", "label=org.tilth.kind=step") == ""


async def test_the_next_life_of_a_node_finds_its_volumes_and_steps_on_podman(
    podman: Podman, tmp_path: Path
) -> None:
    first, second = runtime(podman, tmp_path), runtime(podman, tmp_path)
    wanted = spec(tmp_path, "__import__('time').sleep(1); print('survived')")
    handle = await first.stage(wanted)
    await first.start(handle)
    await first.stage(spec(tmp_path, "pass", "never-started"))
    again = await second.attach(handle.to_json())
    assert again is not None
    result = await second.collect(again)
    assert result.log == b"survived\n"
    assert (await run(second, spec(tmp_path, "print('next')", "next"))).log == b"next\n"
    await second.close()
    assert podman.docker("ps", "-aq", "--filter", "label=org.tilth.kind=step") == ""


async def test_a_step_that_ended_this_moment_is_adopted_too_on_podman(
    podman: Podman, tmp_path: Path
) -> None:
    first, second = runtime(podman, tmp_path), runtime(podman, tmp_path)
    handle = await first.stage(spec(tmp_path, "__import__('time').sleep(1); print('survived')"))
    await first.start(handle)
    await second.attach(handle.to_json())  # it is connected by then
    with contextlib.closing(docker.APIClient(base_url=podman.address)) as api:
        while api.inspect_container(handle.id)["State"]["Status"] in {"created", "running"}:
            pass  # "stopped" stands between "running" and "exited" for some milliseconds
    again = await second.attach(handle.to_json())
    assert again is not None
    assert (await second.collect(again)).log == b"survived\n"
    await second.close()


async def test_a_rootless_engine_without_limits_has_grade_c_and_says_which_are_missing(
    rootless: Rootless, tmp_path: Path
) -> None:
    docker = runtime(rootless, tmp_path)
    checks = await selftest.proof(docker)
    result = await run(docker, spec(tmp_path, "print('hello')"))
    await docker.close()
    if "cgroup v2" in said(checks, "the engine"):
        lacks("control groups v1: where they are delegated, a rootless engine has limits")
    assert missing(checks) == {
        "the engine has a memory limit",
        "the engine has a limit of memory and swap together",
        "the engine has a limit of processes",
        "the engine has a limit of processors",
        "all processes together stay within the memory limit",
        "fork without end",
        "take more processors",
    } - {"take more processors" for c in checks if c.name == "take more processors" and c.holds}
    assert selftest.grade_of(checks) == "C"
    assert "rootless" in said(checks, "the engine")
    assert (result.log, result.grade) == (b"hello\n", "C")
