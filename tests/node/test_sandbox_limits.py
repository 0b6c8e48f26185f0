"""Hostile algorithms: what becomes of a step that fails, hangs, eats or talks too much."""

import os
from dataclasses import replace

import pytest

from tilth_ledger.steps import Reason, StepLimits

MIB = 1 << 20
MODEL = "return {'w': np.zeros(3)}"
SMALL = StepLimits(
    wall_ms=1_000_000,  # on a machine that others use too
    memory_bytes=512 * MIB,
    scratch_bytes=64 * MIB,
    output_bytes=2 * MIB,
    log_bytes=100_000,
    processes=32,
)


async def test_a_step_that_returns_a_model_succeeds(lab):
    result = await lab.run(MODEL)

    assert (result.reason, result.exit) == (None, 0)
    assert [p.name for p in result.outputs["out/model"].iterdir()] == ["model.h5"]


@pytest.mark.parametrize("body", ["os._exit(3)", "sys.exit(3)"])
async def test_an_algorithm_that_exits_3_fails_with_exit(lab, body):
    result = await lab.run(body)

    assert (result.reason, result.exit, result.outputs) == (Reason.EXIT, 3, {})


async def test_a_step_gives_way_to_the_node_and_cannot_help_it(lab):
    result = await lab.run(f"print(os.getpriority(os.PRIO_PROCESS, 0)); os.nice(-5); {MODEL}")

    assert result.exit == 1
    given = min(19, os.nice(0) + 10)
    assert result.log.startswith(b"%d\n" % given)
    assert b"PermissionError" in result.log


async def test_an_exception_leaves_its_words_in_the_log(lab):
    result = await lab.run("raise ValueError('the learning rate is a lie')")

    assert (result.reason, result.exit) == (Reason.EXIT, 1)
    assert b"ValueError: the learning rate is a lie" in result.log


async def test_a_crash_of_the_interpreter_is_an_exit(lab):
    result = await lab.run("import ctypes; ctypes.string_at(0)")

    assert (result.reason, result.exit) == (Reason.EXIT, -11)


@pytest.mark.parametrize(
    "body",
    [
        "time.sleep(600)",
        "while True: pass",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)",
        "while True:\n    try: os.fork()\n    except OSError: pass",
    ],
)
async def test_a_step_that_never_ends_is_ended(lab, body):
    result = await lab.run(body, limits=replace(SMALL, wall_ms=900))

    assert (result.reason, result.exit) == (Reason.TIME, None)


async def test_processor_time_has_a_limit_of_its_own(lab):
    result = await lab.run("while True: pass", limits=replace(SMALL, cpu_ms=1_000))

    assert result.reason is Reason.TIME
    assert result.usage.wall_ms < 900_000  # of 1,000,000: it was not that limit


@pytest.mark.parametrize(
    "body",
    [
        "bytearray(1 << 30)",
        "hoard = []\nwhile True: hoard.append(bytearray(1 << 20))",
        "np.ones(1 << 28)",
    ],
)
async def test_a_step_that_eats_memory_fails_with_out_of_memory(lab, body):
    result = await lab.run(body, limits=SMALL)

    assert result.reason is Reason.OUT_OF_MEMORY


async def test_a_step_killed_from_outside_counts_as_out_of_memory(lab):
    result = await lab.run("os.kill(os.getpid(), 9)")

    assert result.reason is Reason.OUT_OF_MEMORY


async def test_a_step_without_a_model_fails(lab):
    result = await lab.run("os._exit(0)")

    assert (result.reason, result.exit) == (Reason.MISSING_OUTPUT, 0)
    assert "out/model" in result.detail


async def test_a_log_of_a_quarter_of_a_gigabyte_is_cut_and_the_step_succeeds(lab):
    talk = "line = b'x' * 65535 + b'\\n'\nfor _ in range(1 << 12): os.write(1, line)\n"

    result = await lab.run(f"os.write(1, b'first')\n{talk}os.write(1, b'last')\n{MODEL}")

    assert result.reason is None
    assert len(result.log) < 100_000 + 100
    assert result.log.startswith(b"first")
    assert result.log.endswith(b"last")
    assert result.log_cut_bytes == (1 << 28) + 9 - 100_000


async def test_a_short_log_is_kept_whole(lab):
    result = await lab.run(f"print('hello'); sys.stderr.write('there')\n{MODEL}")

    assert result.log == b"hello\nthere"
    assert result.log_cut_bytes == 0


async def test_a_model_beyond_the_limit_is_too_large(lab):
    result = await lab.run("return {'w': np.zeros(1 << 19)}", limits=SMALL)

    assert result.reason is Reason.TOO_LARGE
    assert result.outputs == {}


async def test_a_model_within_the_limit_is_kept(lab):
    result = await lab.run("return {'w': np.zeros(1 << 17)}", limits=SMALL)

    assert result.reason is None


async def test_a_disk_that_is_full_is_too_large(lab):
    fill = "f = open('/tmp/fill', 'wb')\nwhile True: f.write(bytes(1 << 20)); f.flush()"

    result = await lab.run(fill, limits=SMALL)

    assert result.reason is Reason.TOO_LARGE


async def test_all_writable_folders_share_one_disk(lab):
    fill = "for p in ('/tmp/a', '/task/a', '/dev/shm/a'): open(p, 'wb').write(bytes(24 << 20))"

    result = await lab.run(fill, limits=SMALL)

    assert result.reason is Reason.TOO_LARGE


async def test_a_step_that_starts_too_many_processes_is_stopped_from_it(lab):
    fork = "        if not os.fork(): time.sleep(600)\n        n += 1\n"
    body = f"n = 0\ntry:\n    while n < 500:\n{fork}except OSError:\n    print(n)\n"

    result = await lab.run(body + MODEL)

    assert result.reason is None
    assert int(result.log) < 40


async def test_code_that_needs_what_the_environment_lacks_says_so(lab):
    code = lab.archive(algorithm="import a_library_that_is_not_installed\n")

    result = await lab.run(code)

    assert result.reason is Reason.ENVIRONMENT
    assert b"a_library_that_is_not_installed" in result.log


async def test_a_model_that_is_no_arrays_has_the_wrong_shape(lab):
    result = await lab.run("return ['not', 'a', 'model']")

    assert result.reason is Reason.WRONG_SHAPE


async def test_usage_is_measured(lab):
    result = await lab.run(
        f"end = time.process_time() + 0.3\nwhile time.process_time() < end: pass\n{MODEL}"
    )

    assert result.usage.cpu_ms >= 290
    assert result.usage.wall_ms >= 290
    assert result.usage.peak_memory_bytes > 10 * MIB
    assert result.usage.output_bytes > 0


@pytest.mark.parametrize("sizes", [[70 * MIB], [MIB] * 70])
async def test_inputs_that_do_not_fit_the_disk_are_too_large(lab, sizes):
    files = {f"in/model/{n}.bin": bytes(size) for n, size in enumerate(sizes)}

    result = await lab.run(MODEL, limits=SMALL, files=files)

    assert result.reason is Reason.TOO_LARGE
    assert "inputs" in result.detail


async def test_inputs_that_fit_are_all_there(lab):
    files = {f"in/model/{n}.bin": bytes(MIB) for n in range(40)}

    result = await lab.run(f"print(len(os.listdir('/task/in/model')))\n{MODEL}", files=files)

    assert (result.reason, result.log) == (None, b"40\n")
