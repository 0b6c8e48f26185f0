"""The self-test finds what holds, and says so when something does not."""

import pytest

from tilth_ledger.steps import Folder, Reason, Source
from tilth_node.runtimes import NodeFault
from tilth_node.runtimes.process import EVERYTHING, Processes
from tilth_node.runtimes.sandbox import Sandbox
from tilth_node.runtimes.selftest import doctor, grade_of

MODEL = "return {'w': np.zeros(3)}"


async def test_the_sandbox_holds_everything_it_claims(lab):
    checks = await doctor(lab.sandbox)

    assert [c for c in checks if not c.holds] == []
    assert len(checks) > 30
    assert grade_of(checks) == "B"


WITHOUT_LANDLOCK = """
from pathlib import Path
from tilth.algorithm import confine, serve
confine.landlock = lambda: 0
serve.serve(Path("/task"), serve.PREPARED)
"""


async def test_a_kernel_without_landlock_holds_the_same(lab):
    python = lab.sandbox._layout["python"]
    lab.sandbox._layout["argv"] = [python, "-s", "-P", "-u", "-c", WITHOUT_LANDLOCK]

    checks = await doctor(lab.sandbox)

    assert [c for c in checks if not c.holds] == []


async def test_a_sandbox_that_shows_too_much_is_found_out(lab):
    leaky = Sandbox()
    leaky._layout["binds"] = [*leaky._layout["binds"], ("/etc", "/etc")]

    checks = await doctor(leaky)
    await leaky.close()

    assert [c.name for c in checks if not c.holds] == ["read accounts"]
    assert grade_of(checks) == "D"


async def test_a_sandbox_that_cannot_start_has_grade_d(lab):
    broken = Sandbox()
    broken._layout["binds"] = [("/there/is/no/such/folder", "/x")]

    checks = await doctor(broken)
    await broken.close()

    assert [c.holds for c in checks] == [False]
    assert grade_of(checks) == "D"


async def test_plain_processes_are_not_attacked_and_have_grade_d():
    checks = await doctor(Processes(EVERYTHING))

    assert [c.holds for c in checks] == [False]
    assert grade_of(checks) == "D"


def a_spec_with_digest(lab, digest):
    from dataclasses import replace

    spec = lab.spec(lab.algo(MODEL))
    folders = (Folder("code", Source.ARCHIVE, digest=digest),)
    return replace(spec, step=replace(spec.step, folders=folders))


async def test_plain_processes_refuse_code_that_was_not_reviewed(lab):
    runtime = Processes(frozenset({"a" * 64}))

    with pytest.raises(NodeFault, match="not reviewed"):
        await runtime.stage(a_spec_with_digest(lab, "b" * 64))


async def test_plain_processes_run_what_was_reviewed(lab):
    runtime = Processes(frozenset({"a" * 64}))
    handle = await runtime.stage(a_spec_with_digest(lab, "a" * 64))

    await runtime.start(handle)
    result = await runtime.collect(handle)

    assert (result.reason, result.grade) == (None, "D")
    assert (result.outputs["out/model"] / "model.h5").is_file()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("sys.exit(3)", Reason.EXIT),
        ("os._exit(0)", Reason.MISSING_OUTPUT),
        ("time.sleep(600)", Reason.TIME),
        ("bytearray(4 << 30)", Reason.OUT_OF_MEMORY),
    ],
)
async def test_plain_processes_know_the_same_reasons(lab, body, reason):
    from dataclasses import replace

    runtime = Processes(EVERYTHING)
    spec = lab.spec(lab.algo(body))
    limits = replace(spec.step.limits, wall_ms=1_500 if reason is Reason.TIME else 1_000_000)
    handle = await runtime.stage(replace(spec, step=replace(spec.step, limits=limits)))

    await runtime.start(handle)
    result = await runtime.collect(handle)

    assert result.reason is reason


async def test_a_canceled_plain_process_ends(lab):
    import asyncio

    runtime = Processes(EVERYTHING)
    handle = await runtime.stage(lab.spec(lab.algo("time.sleep(600)")))
    await runtime.start(handle)
    collecting = asyncio.create_task(runtime.collect(handle))
    await asyncio.sleep(0)

    await runtime.cancel(handle)

    assert (await collecting).reason is Reason.CANCELED
