"""What a hostile step may leave as output: regular files in plain folders, or nothing."""

import pytest

from tilth_ledger.steps import Output, Reason
from tilth_node.runtimes import NodeFault, room

HERE = "os.makedirs('/task/out/model')\n"
DONE = "\nos._exit(0)"


@pytest.mark.parametrize(
    "body",
    [
        f"{HERE}os.symlink('/etc/shadow', '/task/out/model/x')",
        f"{HERE}os.symlink('/task/task.json', '/task/out/model/x')",
        f"{HERE}os.mkfifo('/task/out/model/x')",
        f"{HERE}socket.socket(socket.AF_UNIX).bind('/task/out/model/x')",
        "os.symlink('/proc/1', '/task/out')",
        "os.mkdir('/task/out'); os.symlink('/usr', '/task/out/model')",
        f"{HERE}open(b'/task/out/model/\\xff', 'wb')",
        f"{HERE}open('/task/out/model/two\\nlines', 'wb')",
    ],
)
async def test_an_output_that_is_no_plain_file_has_the_wrong_shape(lab, body):
    result = await lab.run(body + DONE)

    assert result.reason is Reason.WRONG_SHAPE
    assert result.outputs == {}


async def test_a_sparse_file_counts_in_full(lab):
    body = f"{HERE}os.truncate(os.open('/task/out/model/x', 66), 200 << 20)"

    result = await lab.run(body + DONE)

    assert result.reason is Reason.TOO_LARGE


async def test_too_many_files_are_too_large(lab):
    body = f"{HERE}for i in range(21_000): os.close(os.open(f'/task/out/model/{{i}}', 66))"

    result = await lab.run(body + DONE)

    assert result.reason is Reason.TOO_LARGE


async def test_files_without_rights_are_read_all_the_same(lab):
    body = f"{HERE}open('/task/out/model/x', 'w').write('7')\nos.chmod('/task/out/model/x', 0)\n"

    result = await lab.run(body + "os.chmod('/task/out/model', 0)" + DONE)

    assert result.reason is None
    assert (result.outputs["out/model"] / "x").read_text() == "7"


async def test_folders_and_executables_keep_their_form(lab):
    body = f"{HERE}os.mkdir('/task/out/model/a')\nopen('/task/out/model/a/run', 'w').write('x')\n"

    result = await lab.run(body + "os.chmod('/task/out/model/a/run', 0o755)" + DONE)

    made = result.outputs["out/model"] / "a" / "run"
    assert made.read_text() == "x"
    assert made.stat().st_mode & 0o777 == 0o755


async def test_only_declared_outputs_leave(lab):
    body = f"{HERE}for p in ('out/model/x', 'out/more', 'perf.json'): open(f'/task/{{p}}', 'w')"
    spec = lab.spec(lab.algo(body + DONE), declared=(Output("out/model", True, 99),))

    result = await lab.run_spec(spec)

    assert result.reason is None
    left = sorted(p.relative_to(spec.collect).as_posix() for p in spec.collect.rglob("*"))
    assert left == ["out", "out/model", "out/model/x"]


async def test_a_process_left_behind_cannot_change_outputs_after_the_end(lab):
    body = (
        f"{HERE}open('/task/out/model/x', 'w').write('good')\n"
        "if not os.fork():\n"
        "    while True: open('/task/out/model/x', 'w').write('changed')\n"
    )

    result = await lab.run(body + "os._exit(0)")

    assert result.reason in (None, Reason.TOO_LARGE)  # frozen at some moment, read as it then was
    if result.reason is None:
        assert (result.outputs["out/model"] / "x").read_text() in ("good", "changed", "")


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ("os.makedirs('/task/report.json/x')\nopen('/task/report.json/x/y', 'w')", "report.json"),
        ("os.makedirs('/task/perf.json')\nopen('/task/perf.json/y', 'w')", "perf.json"),
        ("os.mkdir('/task/out')\nopen('/task/out/model', 'w').write('1')", "out/model"),
        ("open('/task/local', 'w').write('1')", "local"),
        ("open('/task/pred', 'w').write('1')", "pred"),
    ],
)
async def test_a_folder_in_place_of_a_file_and_the_reverse_have_the_wrong_shape(lab, body, path):
    result = await lab.run(body + DONE, declared=(Output(path, True, 1_000),))

    assert result.reason is Reason.WRONG_SHAPE
    assert result.outputs == {}


async def test_outputs_never_fill_the_ledgers_share_of_the_disk(lab, monkeypatch):
    monkeypatch.setattr(room, "FLOOR_BYTES", 1 << 60)

    with pytest.raises(NodeFault, match="kept free for the ledger"):
        await lab.run(f"{HERE}open('/task/out/model/x', 'w').write('7'){DONE}")
