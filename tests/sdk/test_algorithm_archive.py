"""From a class or a folder to an archive, and back to the object inside."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tilth.algorithm import Opener, archive, loading, manifest
from tilth.algorithm.errors import EnvironmentMissing, WrongShape
from tilth.algorithm.manifest import Manifest
from tilth_ledger.archive import read
from tilth_ledger.errors import InvalidInput
from tilth_ledger.operations import MANIFEST
from tilth_node.runtimes.unpack import pack, unpack

SCRIPT = '''
from __future__ import annotations
import os, sys
import numpy as np
import tilth
from tilth.algorithm import Algorithm, Parameter, archive

SCALE, UNUSED = 16, 17
try:
    import tomllib as toml
except ImportError:
    toml = None


def scaled(x):
    return x / SCALE


def never_called():
    return tilth.connect("nowhere")


def decorate(cls):
    return cls


@decorate
class Softmax(Algorithm):  # a comment that stays
    """With a docstring."""

    parameters = [Parameter("rate", float, 0.5, low=0, high=10), Parameter("steps", int, 5, low=1)]

    def start(self, task):
        net = np.zeros(2)  # a local of the same name as the connection below
        return {"w": scaled(net), "t": [toml for _ in range(1)]}

    def train(self, data, model, task):
        return model


net = never_called if len(sys.argv) > 99 else None
packed = archive.of(Softmax)
sys.stdout.buffer.write(packed.data)
'''


def packed_by(script, tmp_path, **run):
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(script))
    ended = subprocess.run([sys.executable, str(path)], capture_output=True, check=True, **run)
    return ended.stdout


def files_of(data):
    return {file.path: file.data.decode() for file in read(data)}


def test_a_class_of_a_script_takes_what_it_uses_and_nothing_else(tmp_path):
    text = files_of(packed_by(SCRIPT, tmp_path))["algorithm.py"]

    for part in (
        "from __future__ import annotations",
        "import numpy as np",
        "from tilth.algorithm import Algorithm, Parameter\n",
        "SCALE, UNUSED = 16, 17",
        "def scaled(x):",
        "except ImportError:",
        "@decorate\nclass Softmax(Algorithm):  # a comment that stays",
    ):
        assert part in text
    for part in ("import tilth\n", "never_called", "import os", "net = never", "packed", "archive"):
        assert part not in text


def test_the_archived_module_is_the_same_class(tmp_path):
    unpack(packed_by(SCRIPT, tmp_path), tmp_path / "code")

    algo = loading.algorithm(tmp_path / "code", manifest.read(tmp_path / "code"))

    assert type(algo).__name__ == "Softmax"
    assert [p.name for p in algo.parameters] == ["rate", "steps"]
    assert algo.start(None)["w"].tolist() == [0, 0]


def test_the_same_class_gives_the_same_bytes_from_file_and_standard_input(tmp_path):
    from_file = packed_by(SCRIPT, tmp_path)
    with (tmp_path / "script.py").open() as script:
        from_stdin = subprocess.run(
            [sys.executable, "-"], stdin=script, capture_output=True, check=True
        ).stdout

    assert from_file == from_stdin


def test_a_change_below_the_class_changes_no_digest(tmp_path):
    (tmp_path / "other").mkdir()

    one = packed_by(SCRIPT, tmp_path)
    two = packed_by(SCRIPT + "\nprint('something else', file=sys.stderr)\n", tmp_path / "other")

    assert one == two


def test_a_class_whose_source_is_lost_is_refused_with_a_remedy(tmp_path):
    piped = subprocess.run(
        [sys.executable, "-"], input=SCRIPT.encode(), capture_output=True, check=False
    )

    assert b"pack a folder" in piped.stderr


def test_a_notebook_is_packed_from_its_cells(tmp_path):
    cells = [
        "",
        "%matplotlib inline\nimport numpy as np",
        "from tilth.algorithm import Algorithm, archive\nN = 2",
        "this cell had an error",
        "class Mine(Algorithm):\n    def start(self, task): return {'w': np.zeros(N)}",
        "N = 3",
    ]
    script = f"""
        import sys
        In = {cells!r}
        for cell in In:
            code = "\\n".join(x for x in cell.splitlines() if not x.startswith("%"))
            try: exec(compile(code, "<ipython-input-1>", "exec"), globals())
            except SyntaxError: pass
        sys.stdout.buffer.write(archive.of(Mine).data)
    """

    text = files_of(packed_by(script, tmp_path))["algorithm.py"]

    assert "import numpy as np" in text
    assert "N = 3" in text
    assert "N = 2" not in text
    assert "matplotlib" not in text


def test_the_manifest_can_be_registered_as_it_is(tmp_path):
    unpack(packed_by(SCRIPT, tmp_path), tmp_path / "code")

    registered = manifest.read(tmp_path / "code").as_registered()

    MANIFEST.check(registered, "manifest")
    assert registered["capabilities"] == ["aggregate", "init", "train"]
    assert [p["name"] for p in registered["parameters"]] == ["rate", "steps"]


class Digits(Opener):
    def get_X(self, folders):  # noqa: N802
        return []


def metric(y_true, y_pred):
    return 0.5


def test_openers_and_metrics_are_packed_too(tmp_path):
    unpack(archive.of(Digits).data, tmp_path / "opener")
    unpack(archive.of(metric).data, tmp_path / "metric")

    opener = loading.opener(tmp_path / "opener", manifest.read(tmp_path / "opener"))
    score = loading.metric(tmp_path / "metric", manifest.read(tmp_path / "metric"))

    assert opener.get_X([]) == []
    assert score(None, None) == 0.5


def test_a_class_inside_a_function_is_refused_with_a_remedy():
    class Hidden(Opener):
        def get_X(self, folders):  # noqa: N802
            return []

    with pytest.raises(InvalidInput, match="top level"):
        archive.of(Hidden)


@pytest.mark.parametrize("thing", [7, None, [], Path("/there/is/no/such/folder")])
def test_what_cannot_be_packed_says_what_can(thing):
    with pytest.raises(InvalidInput, match="folder"):
        archive.of(thing)


def a_folder(tmp_path):
    folder = tmp_path / "opener"
    (folder / "parts").mkdir(parents=True)
    (folder / "opener.py").write_text("def get_X(folders): return []\n")
    (folder / "parts" / "run").write_text("#!/bin/sh\n")
    (folder / "parts" / "run").chmod(0o755)
    return folder


def test_a_folder_is_packed_without_its_caches(tmp_path):
    folder = a_folder(tmp_path)
    before = archive.of(folder)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "opener.cpython-311.pyc").write_bytes(b"x")
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text("x")

    assert archive.of(folder).digest == before.digest
    assert sorted(files_of(before.data)) == ["opener.py", "parts/run"]


def test_packing_does_not_depend_on_time_or_mode(tmp_path):
    folder = a_folder(tmp_path)
    before = archive.of(folder).digest
    (folder / "opener.py").chmod(0o600)
    os.utime(folder / "opener.py", (1, 1))

    assert archive.of(folder).digest == before
    (folder / "opener.py").chmod(0o700)
    assert archive.of(folder).digest != before


def test_a_folder_with_a_link_is_refused(tmp_path):
    folder = a_folder(tmp_path)
    (folder / "passwd").symlink_to("/etc/passwd")

    with pytest.raises(InvalidInput, match="links"):
        archive.of(folder)


def test_unpacked_folders_pack_to_the_same_bytes(tmp_path):
    data = archive.of(a_folder(tmp_path)).data

    unpack(data, tmp_path / "there")

    assert pack(tmp_path / "there") == data
    assert (tmp_path / "there" / "parts" / "run").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "there" / "opener.py").stat().st_mode & 0o777 == 0o644


def test_unpack_never_writes_over_a_file(tmp_path):
    data = archive.of(a_folder(tmp_path)).data
    unpack(data, tmp_path / "there")

    with pytest.raises(FileExistsError):
        unpack(data, tmp_path / "there")


def test_unpack_does_not_follow_a_link_that_lies_in_its_way(tmp_path):
    data = archive.of(a_folder(tmp_path)).data
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "opener.py").symlink_to(tmp_path / "victim")

    with pytest.raises(OSError, match="exists"):
        unpack(data, tmp_path / "there")
    assert not (tmp_path / "victim").exists()


# Manifests


@pytest.mark.parametrize(
    "stated",
    [
        Manifest(),
        Manifest(name='a "quoted" name\n', entry=("m", "C"), capabilities=("init", "train")),
        Manifest(commands={"train": ["./train", "--fast"]}, outputs=("model", "stats")),
        Manifest(parameters=({"name": "x", "type": "int", "choices": [1, 2], "default": 1},)),
    ],
)
def test_a_manifest_is_read_as_it_was_written(tmp_path, stated):
    (tmp_path / "tilth.toml").write_text(manifest.write(stated))

    assert manifest.read(tmp_path) == stated


def test_a_folder_without_a_manifest_is_read_by_its_usual_name(tmp_path):
    assert manifest.read(a_folder(tmp_path)).entry == ("opener", "")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("format = 'tilth-2'", "another format"),
        ("name = 'x'", "another format"),
        ("format = 'tilth-1'\ncomands = 1", "comands"),
        ("format = 'tilth-1'\n[commands]\ntrain = './train'", "list of texts"),
        ("format = 'tilth-1'\ncommands = []", "commands in tilth.toml is no table"),
        ("format = 'tilth-1'\npython = 'a:B'", "python in tilth.toml is no table"),
        ("format = 'tilth-1'\ncapabilities = 3", "capabilities in tilth.toml is no list"),
        ("format = 'tilth-1'\ncapabilities = [3, 'a']", "are texts"),
        ("format = 'tilth-1'\nparameters = ['rate']", "is no table"),
        ("a = " + 5_000 * "[", "cannot be read"),
        ("this is no toml", "cannot be read"),
    ],
)
def test_a_manifest_that_is_wrong_says_how(tmp_path, text, words):
    (tmp_path / "tilth.toml").write_text(text)

    with pytest.raises(InvalidInput, match=words):
        manifest.read(tmp_path)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("import no_such_library", EnvironmentMissing),
        ("x = 1", WrongShape),
        (
            "from tilth.algorithm import Algorithm as A\nclass B(A): pass\nclass C(A): pass",
            WrongShape,
        ),
    ],
)
def test_an_archive_without_one_algorithm_says_so(tmp_path, text, error):
    (tmp_path / "algorithm.py").write_text(text)

    with pytest.raises(error):
        loading.algorithm(tmp_path, manifest.read(tmp_path))


class Misses:
    def statistics(self, y_true, y_pred):
        return {"wrong": sum(a != b for a, b in zip(y_true, y_pred, strict=True))}

    def reduce(self, statistics):
        return statistics["wrong"]


def test_a_metric_may_be_a_class_with_statistics_and_reduce(tmp_path):
    unpack(archive.of(Misses).data, tmp_path / "metric")

    made = loading.metric(tmp_path / "metric", manifest.read(tmp_path / "metric"))

    assert made.reduce(made.statistics([1, 2, 3], [1, 0, 0])) == 2
