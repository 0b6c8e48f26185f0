"""The runner: the file contract of every step, on real folders, without an isolation."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tilth.algorithm import runner, weights
from tilth_ledger.results import read_score
from tilth_ledger.steps import CONTRACT, EXIT_CODES, Reason

ALGO = """
import numpy as np
from tilth.algorithm import Algorithm, Parameter

class Mean(Algorithm):
    parameters = [Parameter("rate", float, 0.5), Parameter("steps", int, 3)]

    def start(self, task):
        return {"w": np.zeros(2)}

    def train(self, data, model, task):
        for step in range(task.parameters["steps"]):
            task.report(step=step, rate=task.parameters["rate"])
        (task.local / "seen").write_text("x") if task.local.is_dir() else None
        return {"w": model["w"] + data.X.sum(axis=0) + data.y.sum()}

    def predict(self, features, model, task):
        return (features.X.sum(axis=1) + model["w"].sum()).round().astype(int)
"""
OPENER = """
import numpy as np
from tilth.algorithm import Opener

class Files(Opener):
    def get_X(self, folders):
        return np.concatenate([np.load(f / "X.npy") for f in folders])

    def get_y(self, folders):
        return np.concatenate([np.load(f / "y.npy") for f in folders])
"""
SIZES = {"0a": 3, "0b": 1, "0c": 4}


class Bench:
    """A task folder, filled piece by piece."""

    def __init__(self, root):
        self.root = root

    def put(self, path, content):
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.encode())
        return self

    def samples(self, name="data", labels=True):
        start = 0
        for sample, size in SIZES.items():
            folder = self.root / name / sample
            folder.mkdir(parents=True)
            np.save(folder / "X.npy", np.arange(start, start + size * 2).reshape(size, 2) * 1.0)
            if labels:
                np.save(folder / "y.npy", np.arange(size) % 2)
            start += size * 2
        return self

    def run(self, step, **facts):
        task = {
            "contract": CONTRACT,
            "step": step,
            "kind": step,
            "plan": "p",
            "task": "t",
            "rank": 1,
            "organization": "h",
            "parameters": {},
            "seed": 1,
            "inputs": [],
            "outputs": ["model"],
            "selection": {},
            "features": "files",
            "metric": {"builtin": "accuracy"},
            **facts,
        }
        self.put("task.json", json.dumps(task))
        return runner.run(self.root)

    def model(self, name="model"):
        return weights.load(self.root / "out" / name)

    def json(self, name):
        return json.loads((self.root / name).read_text())


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    return Bench(tmp_path).put("code/algorithm.py", ALGO).put("opener/opener.py", OPENER)


INPUT = [{"name": "model", "task": "t0", "organization": "h", "rank": 0, "count": 5}]


def test_init_writes_the_start(bench):
    assert bench.run("init") == 0

    assert bench.model()["w"].tolist() == [0, 0]
    assert "count" not in bench.json("report.json")


def test_train_reads_data_parameters_and_model_and_reports(bench):
    bench.samples().put("in/model/model.h5", weights.write({"w": np.ones(2)}))

    code = bench.run("train", inputs=INPUT, parameters={"rate": "0.25", "steps": 2})

    assert code == 0
    assert bench.model()["w"].tolist() == [1 + 56 + 3, 1 + 64 + 3]
    report = bench.json("report.json")
    assert report["count"] == 8
    assert report["scalars"] == {"step": 1, "rate": 0.25}
    assert report["series"]["step"]["values"] == [0, 1]
    assert report["timings"]["train_us"] > 0


def test_train_without_an_input_begins_at_the_start(bench):
    assert bench.samples().run("train") == 0

    assert bench.model()["w"].tolist() == [59, 67]


def test_train_on_a_selection_counts_only_its_rows(bench):
    assert bench.samples().run("train", selection={"kind": "first", "count": 2}) == 0

    assert bench.json("report.json")["count"] == 2
    assert bench.model()["w"].tolist() == [0 + 2 + 1, 1 + 3 + 1]


def aggregate(bench, counts):
    inputs = []
    for n, count in enumerate(counts):
        bench.put(f"in/site-{n}/model.h5", weights.write({"w": np.full(2, float(n))}))
        inputs.append({**INPUT[0], "name": f"site-{n}", "count": count})
    return bench.run("aggregate", inputs=inputs)


def test_aggregate_is_a_mean_weighted_by_the_rows_of_each_input(bench):
    assert aggregate(bench, [1, 1, 2]) == 0

    assert bench.model()["w"].tolist() == [1.25, 1.25]
    assert bench.json("report.json")["count"] == 4


def test_a_builtin_aggregate_needs_no_code(bench, tmp_path):
    (tmp_path / "code/algorithm.py").unlink()
    (tmp_path / "code").rmdir()

    assert aggregate(bench, [3, 1, 0]) == 0

    assert bench.model()["w"].tolist() == [0.25, 0.25]


def test_predict_writes_the_predictions_of_each_sample(bench):
    bench.samples("features", labels=False)
    bench.put("in/model/model.h5", weights.write({"w": np.zeros(2)}))

    assert bench.run("predict", inputs=INPUT) == 0

    found = {p.parent.name: np.load(p).tolist() for p in bench.root.glob("pred/*/*.npy")}
    assert found == {"0a": [1, 5, 9], "0b": [13], "0c": [17, 21, 25, 29]}


def test_exported_features_hold_no_labels_and_are_enough_to_predict(bench, tmp_path):
    assert bench.samples().run("features") == 0
    names = sorted(p.name for p in (tmp_path / "features").rglob("*") if p.is_file())
    assert names == ["features.npy"] * 3

    other = (
        Bench(tmp_path / "second").put("code/algorithm.py", ALGO).put("opener/opener.py", OPENER)
    )
    (tmp_path / "features").rename(tmp_path / "second" / "features")
    other.put("in/model/model.h5", weights.write({"w": np.zeros(2)}))

    assert other.run("predict", inputs=INPUT, features="exported") == 0
    assert np.load(other.root / "pred/0c/predictions.npy").tolist() == [17, 21, 25, 29]


def predictions(bench, values):
    for sample, rows in values.items():
        (bench.root / "pred" / sample).mkdir(parents=True)
        np.save(bench.root / "pred" / sample / "predictions.npy", np.array(rows))
    return bench


RIGHT = {"0a": [0, 1, 0], "0b": [0], "0c": [0, 1, 0, 1]}


def test_score_compares_truth_and_predictions(bench):
    code = predictions(bench.samples(), {**RIGHT, "0a": [1, 1, 1]}).run("score")

    assert code == 0
    perf = bench.json("perf.json")
    assert (perf["all"], perf["count"]) == (0.75, 8)
    assert perf["samples"]["0c"] == 1.0
    assert perf["statistics"] == {"labels": [0, 1], "matrix": [[3, 2], [0, 3]]}


def test_score_of_a_selection_cuts_both_sides(bench):
    predictions(bench.samples(), RIGHT)

    assert bench.run("score", selection={"kind": "first", "count": 5}) == 0

    assert bench.json("perf.json")["count"] == 5


def test_a_selection_of_exported_features_meets_the_same_rows_in_the_score(bench, tmp_path):
    selection = {"kind": "fold", "index": 0, "of": 2, "by": "stratified", "seed": 4}
    bench.samples().put("in/model/model.h5", weights.write({"w": np.zeros(2)}))

    codes = [
        bench.run(step, selection=selection, features="exported", inputs=INPUT)
        for step in ("features", "predict", "score")
    ]

    assert codes == [0, 0, 0]
    assert bench.json("perf.json")["count"] == 4


@pytest.mark.parametrize("wrong", [{**RIGHT, "0b": []}, {**RIGHT, "0b": [0, 0]}, {"0a": [0, 1, 0]}])
def test_predictions_that_do_not_match_the_rows_have_the_wrong_shape(bench, wrong):
    assert predictions(bench.samples(), wrong).run("score") == EXIT_CODES[Reason.WRONG_SHAPE]


def test_a_swapped_number_of_rows_is_not_a_shifted_score(bench):
    shifted = {"0a": [0, 1], "0b": [0, 0], "0c": [0, 1, 0, 1]}

    assert predictions(bench.samples(), shifted).run("score") == EXIT_CODES[Reason.WRONG_SHAPE]


def own_metric(bench, text):
    return predictions(bench.samples(), RIGHT).put("metric/metric.py", text)


def test_a_metric_of_ones_own_is_a_function(bench):
    text = "def score(y_true, y_pred): return {'all': 0.5, 'bias': 2}"

    assert own_metric(bench, text).run("score", metric={"archive": "x"}) == 0

    assert bench.json("perf.json") == {"all": 0.5, "bias": 2, "count": 8}


def test_a_metric_of_ones_own_may_be_statistics_and_reduce(bench):
    text = "def statistics(t, p): return {'n': len(t)}\ndef reduce(s): return s['n'] / 2"

    assert own_metric(bench, text).run("score", metric={"archive": "x"}) == 0

    assert bench.json("perf.json")["all"] == 4.0


@pytest.mark.parametrize("value", ["float('nan')", "float('inf')", "__import__('numpy').nan"])
def test_a_score_that_is_no_number_passes_through_and_is_flagged(bench, value):
    text = f"def score(y_true, y_pred): return {value}"

    assert own_metric(bench, text).run("score", metric={"archive": "x"}) == 0

    assert bench.json("perf.json")["all"] in ("nan", "inf")
    assert read_score((bench.root / "perf.json").read_bytes()).value is None


def test_a_builtin_metric_without_a_value_is_flagged_too(bench):
    constant = {sample: [0] * size for sample, size in SIZES.items()}
    for sample, size in SIZES.items():
        (bench.root / "data" / sample).mkdir(parents=True)
        np.save(bench.root / "data" / sample / "y.npy", np.zeros(size))
    predictions(bench, {s: [0.5] * n for s, n in SIZES.items()} if constant else {})

    assert bench.run("score", metric={"builtin": "roc_auc"}) == 0

    assert read_score((bench.root / "perf.json").read_bytes()).value is None


def test_a_composite_returns_its_outputs_by_name(bench):
    text = ALGO.replace('return {"w": np.zeros(2)}', 'return {"head": {"h": 1}, "trunk": {"t": 2}}')

    assert bench.put("code/algorithm.py", text).run("init", outputs=["head", "trunk"]) == 0

    assert bench.model("head")["h"] == 1
    assert bench.model("trunk")["t"] == 2


def test_a_composite_gets_its_models_by_name(bench):
    text = ALGO.replace(
        'return {"w": model["w"] + data.X.sum(axis=0) + data.y.sum()}',
        'return {"head": model["trunk"], "trunk": model["head"]}',
    )
    inputs = [{**INPUT[0], "name": name} for name in ("head", "trunk")]
    for n, name in enumerate(("head", "trunk")):
        bench.put(f"in/{name}/model.h5", weights.write({"w": np.full(1, n)}))

    code = (
        bench.samples()
        .put("code/algorithm.py", text)
        .run("train", inputs=inputs, outputs=["head", "trunk"])
    )

    assert code == 0
    assert (bench.model("head")["w"], bench.model("trunk")["w"]) == (1, 0)


def test_outputs_under_other_names_have_the_wrong_shape(bench):
    text = ALGO.replace('return {"w": np.zeros(2)}', 'return {"head": {"h": 1}}')

    code = bench.put("code/algorithm.py", text).run("init", outputs=["head", "trunk"])

    assert code == EXIT_CODES[Reason.WRONG_SHAPE]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import sys; sys.exit(3)", 3),
        ("raise KeyError('x')", 1),
        ("import no_such_library", EXIT_CODES[Reason.ENVIRONMENT]),
        ("x = 1", EXIT_CODES[Reason.WRONG_SHAPE]),
        (
            ALGO.replace("return {", "raise MemoryError\n        return {"),
            EXIT_CODES[Reason.OUT_OF_MEMORY],
        ),
        (ALGO.replace('"w": np.zeros(2)', '"w": object()'), EXIT_CODES[Reason.WRONG_SHAPE]),
        ("import errno\nraise OSError(errno.ENOSPC, 'full')", EXIT_CODES[Reason.TOO_LARGE]),
    ],
)
def test_the_exit_code_says_what_kind_of_failure_it_was(bench, text, reason):
    assert bench.put("code/algorithm.py", text).run("init") == reason


def test_a_task_of_another_contract_is_refused(bench, capfd):
    assert bench.run("init", contract="tilth-task-99") == 1
    assert "tilth-task-99" in capfd.readouterr().err


def test_the_seed_is_set_before_any_user_code(bench):
    text = ALGO.replace("np.zeros(2)", "np.random.rand(2)")
    bench.put("code/algorithm.py", text).run("init", seed=5)
    first = bench.model()["w"].tolist()

    bench.run("init", seed=5)

    assert bench.model()["w"].tolist() == first


def test_a_seeds_opener_of_plain_functions_works_as_it_is(bench):
    text = (
        "import numpy as np, os\n"
        "def read(fs, n): return np.concatenate([np.load(os.path.join(f, n)) for f in fs])\n"
        "def get_X(folders): return read(folders, 'X.npy')\n"
        "def get_y(folders): return read(folders, 'y.npy')\n"
    )

    assert bench.samples().put("opener/opener.py", text).run("train") == 0


def test_it_runs_as_a_module_of_an_isolated_python(bench):
    bench.run("init")
    (bench.root / "out/model/model.h5").unlink()

    ended = subprocess.run(
        [sys.executable, "-I", "-m", "tilth.algorithm", str(bench.root)], check=False
    )

    assert ended.returncode == 0
    assert bench.model()["w"].tolist() == [0, 0]


def test_no_network_code_is_loaded_inside_an_isolation(bench):
    text = ALGO + "\nimport sys\nprint(*sys.modules)\n"
    bench.put("code/algorithm.py", text).run("init")

    ended = subprocess.run(
        [sys.executable, "-I", "-m", "tilth.algorithm", str(bench.root)],
        capture_output=True,
        text=True,
        check=True,
    )

    loaded = set(ended.stdout.split())
    assert "tilth.algorithm" in loaded
    assert not loaded & {"grpc", "google.protobuf", "tilth_protos", "tilth_node", "sqlite3"}
