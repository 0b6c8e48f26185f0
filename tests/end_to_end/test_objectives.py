"""Metrics of one's own, revisions, withdrawals and proofs of entries, on a local consortium."""

import json
import secrets

import numpy as np
import pytest

import tilth
from tilth import InvalidInput, Refused
from tilth.algorithm import Algorithm, Opener, archive
from tilth.cli import main
from tilth.plan import Plan
from tilth_ledger.archive import read


class Tables(Opener):
    """A sample is a folder with table.npy: one column of features, one of labels."""

    def get_X(self, folders):  # noqa: N802
        return np.concatenate([np.load(f / "table.npy")[:, :-1] for f in folders])

    def get_y(self, folders):
        return np.concatenate([np.load(f / "table.npy")[:, -1] for f in folders]).astype(int)


class Ones(Algorithm):
    """Says 1, whatever it sees."""

    def start(self, task):
        return {"nothing": np.zeros(1)}

    def predict(self, features, model, task):
        return np.ones(len(features.X), int)


class Misses:
    """The share of rows that are wrong."""

    def statistics(self, y_true, y_pred):
        return {"wrong": int((y_true != y_pred).sum()), "rows": len(y_true)}

    def reduce(self, statistics):
        return statistics["wrong"] / statistics["rows"]


def hits(y_true, y_pred):
    return {"all": float((y_true == y_pred).mean()), "ones": int(y_pred.sum())}


@pytest.fixture(scope="module")
def net():
    with tilth.local(2) as net, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TILTH_HOME", str(net.folder / "home"))
        patch.setenv("TILTH_PROFILE", net.organization)
        yield net


@pytest.fixture
def name():
    return f"tables-{secrets.token_hex(4)}"


def samples(folder, *labels):
    """One sample for each list of labels; no two ever hold the same bytes."""
    for number, each in enumerate(labels):
        sample = folder / f"{number}-{secrets.token_hex(4)}"
        sample.mkdir(parents=True)
        x = np.random.default_rng().normal(size=(len(each), 1))
        np.save(sample / "table.npy", np.column_stack([x, each]))
    return folder


@pytest.fixture
def opener(tmp_path):
    folder = tmp_path / "opener"
    folder.mkdir()
    (folder / "opener.py").write_text(archive.module_of(Tables))
    return folder


@pytest.fixture
def data(net, tmp_path, opener, name):
    """A dataset of 5 test rows, 3 of them 0, and one of 15 with 3; everybody may test."""
    made = []
    for place, labels in (("hospital-a", [[1, 1], [0, 0, 0]]), ("hospital-b", [[1] * 12, [0] * 3])):
        folder = samples(tmp_path / place, *labels)
        site = net.at(place)
        dataset = site.datasets.add(name, opener=opener, test=folder)
        made.append(site.datasets.grant(dataset, test="public", mixed="participants"))
    net.rows.reach()  # commands that look there find both
    return made


def accepted(net, goal):
    net.rows.at_least(net.status()["size"])  # also of what commands wrote
    for organization in ("hospital-a", "hospital-b"):
        site = net.at(organization)
        site.objectives.accept(site.objectives.find(goal.key))
    return net.objectives.find(goal.key)


def scored(net, goal):
    """Ones, tested on every test set of an objective."""
    algo = net.algos.add(Ones)
    plan = Plan("ones")
    model = plan.init(algo, at="hospital-a")
    plan.final(model)
    for each in goal.sets:
        plan.test(algo, model, goal, each)
    run = net.submit(plan).watch(quiet=True)
    assert run.outcome().ok, run.outcome()
    return run


def run_command(capsys, *words):
    """(exit code, what --json printed) of a command."""
    code = main([*words, "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.rule("T3")
def test_a_model_is_certified_with_a_metric_of_ones_own(net, data, tmp_path):
    goal = net.objectives.add(
        "misses", metric=Misses, datasets=data, direction="minimize", minimum_grade=net.grade
    )
    goal = accepted(net, goal)

    run = scored(net, goal)

    [row] = net.leaderboard(goal).rows
    assert {site: float(value) for site, value in row.per_site.items()} == {
        "hospital-a": 0.6,
        "hospital-b": 0.2,
    }
    assert (row.rank, float(row.value), row.count) == (1, 0.3, 20)
    report = tilth.verify(run.final.export(tmp_path / "row.json"), genesis=net.profile.genesis)
    assert report.ok, report


@pytest.mark.rule("T1")
def test_an_acceptance_is_bound_to_the_digest_of_the_metric(net, data, tmp_path):
    owner = net.at("hospital-b")
    goal = net.objectives.add("hits", metric=hits, datasets=data, minimum_grade=net.grade)

    code = owner.objectives.code(goal, tmp_path / "metric")
    assert archive.of(code).digest == archive.of(hits).digest == goal.metric_digest
    [theirs] = [each for each in goal.sets if each.owner == "hospital-b"]
    operation = {"op": "objective.accept", "key": goal.key, "revision": 1, "set": theirs.set}
    with pytest.raises(Refused, match="T1"):
        owner.record(operation | {"metric_digest": archive.of(Misses).digest})

    owner.objectives.accept(goal)
    [said] = owner.entry(owner.status()["size"] - 1)["payload"]["operations"]
    assert said == operation | {"metric_digest": goal.metric_digest}
    scored(net, net.objectives.find(goal.key))
    [row] = net.leaderboard(goal).rows
    assert float(row.value) == 0.7


@pytest.mark.rule("T5")
def test_a_metric_of_ones_own_has_nothing_to_pool(net, data):
    with pytest.raises(Refused, match="T5"):
        net.objectives.add("pooled", metric=hits, datasets=data, combine="pooled")


@pytest.mark.parametrize("metric", [Ones, "no-such-metric", "."])
def test_what_is_no_metric_is_found_before_anything_is_recorded(net, metric, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("nothing here scores")
    size = net.status()["size"]

    with pytest.raises(InvalidInput, match="metric"):
        net.objectives.add("none", metric=metric)
    assert net.status()["size"] == size


@pytest.mark.rule("T1")
def test_other_test_sets_make_a_revision_with_a_board_of_its_own(net, data, tmp_path, capsys, name):
    metric = tmp_path / "hits"
    metric.mkdir()
    text = archive.module_of(hits)
    (metric / "metric.py").write_text(text)
    with pytest.raises(InvalidInput, match="not a metric"):  # which of its functions is it?
        net.objectives.add(name, metric=metric, datasets=data)
    (metric / "metric.py").write_text(text.replace("def hits", "def score"))
    words = ["objective", "add", name, "--metric", str(metric), "--dataset", name]
    code, made = run_command(capsys, *words, "--grade", net.grade)
    assert (code, len(made["sets"])) == (0, 2)
    code, found = run_command(capsys, "objective", "revise", name)
    assert (code, found["error"]["message"]) == (
        1,
        "the revision would be the same as the one before",
    )
    scored(net, accepted(net, net.objectives.find(made["key"])))

    net.datasets.add(name, test=samples(tmp_path / "more", [1] * 5))
    code, revised = run_command(capsys, "objective", "revise", name)

    assert (code, revised["revision"]) == (0, 2)
    assert [each["accepted"] for each in revised["sets"]] == [True, False]
    goal = net.objectives.find(made["key"])
    assert [row.value for row in net.leaderboard(goal).rows] == []
    assert len(net.leaderboard(goal, revision=1).rows) == 1
    scored(net, accepted(net, goal))
    [row] = net.leaderboard(goal).rows
    assert (float(row.value), row.count) == (0.76, 25)

    older = made["sets"][0]["set"]
    code, chosen = run_command(capsys, "objective", "revise", name, "--set", older)
    assert (code, chosen["revision"]) == (0, 3)
    assert [each["set"] for each in chosen["sets"]] == [older]
    assert main(["objective", "revise", name, "--set", "hospital-a/" + "0" * 32]) == 1
    assert "tilth data sets NAME" in capsys.readouterr().err


def test_a_dataset_can_be_used_with_an_older_set(net, data, tmp_path, name):
    older = data[0].set_of("test")
    grown = net.datasets.add(name, test=samples(tmp_path / "grown", [1]))

    assert grown.set_of("test").count == older.count + 1
    assert grown.using(older).set_of("test") == older
    with pytest.raises(InvalidInput, match=f"tilth data sets {name}"):
        grown.using(data[1].set_of("test"))


@pytest.mark.rule("D5")
def test_a_withdrawn_sample_retires_its_sets_and_never_comes_back(
    net, data, tmp_path, name, capsys
):
    older = data[0].set_of("test")
    goal = net.objectives.add(name, metric="accuracy", datasets=data[:1], minimum_grade=net.grade)
    code, listed = run_command(capsys, "sample", "list", name)
    assert (code, len(listed)) == (0, 2)
    gone = listed[0]["key"]

    code, facts = run_command(capsys, "sample", "withdraw", gone)

    assert code == 0
    [current] = net.datasets.find(data[0].key).sets
    assert facts["sets"] == [
        {"key": current.key, "dataset": data[0].key, "label": "test", "count": 1}
    ]
    again = net.datasets.add(name, test=tmp_path / "hospital-a")
    assert again.sets == (current,)
    states = {each.key: each.status for each in net.samples.list(again)}
    assert sorted(states.values()) == ["active", "withdrawn"]
    with pytest.raises(Refused, match="D5"):
        scored(net, goal)
    revised = net.objectives.revise(goal)
    assert [each.set for each in revised.sets] == [current.key] != [older.key]
    assert main(["sample", "withdraw", "hospital-a/" + "0" * 32]) == 1
    assert "tilth sample list DATASET" in capsys.readouterr().err


@pytest.mark.rule("A4")
def test_what_is_withdrawn_is_not_used_again(net, data, tmp_path, name, capsys):
    goal = net.objectives.add(name, metric=hits, datasets=data, minimum_grade=net.grade)
    code, found = run_command(
        capsys, "objective", "code", name, "--out", str(tmp_path / "of-metric")
    )
    assert (code, found["folder"]) == (0, str(tmp_path / "of-metric"))
    algo = net.algos.add(Ones, name=name)
    assert main(["algo", "code", name, "--out", str(tmp_path / "of-algo")]) == 0
    assert "class Ones" in (tmp_path / "of-algo" / "algorithm.py").read_text()
    words = ["data", "code", data[1].key, "--out"]
    assert main([*words, str(tmp_path / "of-opener")]) == 0
    assert main([*words, str(tmp_path / "of-opener")]) == 1
    capsys.readouterr()

    for noun in ("objective", "algo", "data"):
        code, _ = run_command(capsys, noun, "withdraw", name)
        assert (noun, code) == (noun, 0)

    assert not net.objectives.list(name=name)
    assert not net.algos.list(name=name)
    assert [each.owner for each in net.datasets.list(name=name)] == ["hospital-b"]
    left = net.objectives.add(name, metric=hits, datasets=data[1:], minimum_grade=net.grade)
    net.at("hospital-b").datasets.withdraw(data[1])
    with pytest.raises(InvalidInput, match="none of its datasets is left"):
        net.objectives.revise(left)
    plan = Plan("late")
    plan.test(algo, plan.init(algo, at="hospital-a"), goal, goal.sets[0])
    rules = {problem.rule for problem in net.transport.check(operations_of(net, plan))}
    assert {"A3", "A4"} >= rules > set()
    with pytest.raises(Refused, match="A1"):
        net.at("hospital-b").objectives.withdraw(goal)


def operations_of(net, plan):
    entries = plan.entries(net.organization)
    return json.dumps([each for entry in entries for each in entry]).encode()


def test_any_entry_can_be_listed_shown_and_proven(net, data, tmp_path, capsys):
    code, listed = run_command(capsys, "ledger", "list", "--from", "0", "--limit", "3")
    assert (code, [each["index"] for each in listed]) == (0, [0, 1, 2])
    code, last = run_command(capsys, "ledger", "list", "--limit", "2")
    size = net.status()["size"]
    assert (code, [each["index"] for each in last]) == (0, [size - 2, size - 1])
    code, shown = run_command(capsys, "ledger", "show", "1")
    assert (code, shown) == (0, listed[1])

    file = tmp_path / "entry.json"
    code, _ = run_command(capsys, "ledger", "prove", "1", "--out", str(file))
    assert code == 0
    genesis = ["--genesis", str(net.profile.genesis)]
    code, report = run_command(capsys, "verify", str(file), *genesis)
    assert (code, report["ok"]) == (0, True)
    file.write_text(file.read_text().replace("0", "1", 1))
    assert main(["verify", str(file), *genesis]) == 1

    assert main(["ledger", "list"]) == 0
    assert "dataset.grant" in capsys.readouterr().out
    for verb in ("show", "prove"):
        assert main(["ledger", verb, str(size + 1000)]) == 1
        assert "tilth ledger list" in capsys.readouterr().err


@pytest.mark.rule("R3")
def test_an_algo_runs_in_an_environment_that_also_holds_what_the_opener_needs(
    net, data, tmp_path, capsys
):
    (tmp_path / "ones").mkdir()
    (tmp_path / "ones" / "algorithm.py").write_text(archive.module_of(Ones))
    (tmp_path / "ones" / "tilth.toml").write_bytes(
        next(f.data for f in archive_files(Ones) if f.path == "tilth.toml")
    )
    goal = net.objectives.add("hits", metric=hits, datasets=data[:1], minimum_grade=net.grade)
    outcomes = {}
    for name, needs in (("less", ["numpy"]), ("more", ["h5py", "numpy", "scikit-learn"])):
        words = [word for each in needs for word in ("--requirement", each)]
        assert run_command(capsys, "environment", "add", name, *words)[0] == 0
        folder = str(tmp_path / "ones")
        made = run_command(capsys, "algo", "add", folder, "--environment", name)[1]
        algo = net.algos.find(made["key"])
        plan = Plan(name)
        model = plan.init(algo, at="hospital-a")
        plan.test(algo, model, goal, goal.sets[0])
        check = net.check(plan)
        outcomes[name] = (check.ok, str(check))
    assert not outcomes["less"][0]
    assert "also h5py" in outcomes["less"][1]
    assert "tilth algo add FOLDER --environment NAME" in outcomes["less"][1]
    assert outcomes["more"][0]
    assert net.submit(plan).watch(quiet=True).outcome().ok


def test_a_folder_that_says_nothing_of_what_it_can_do_is_no_algorithm(net, opener):
    size = net.status()["size"]

    with pytest.raises(InvalidInput, match="capabilities ="):
        net.algos.add(opener)
    assert net.status()["size"] == size


def test_a_folder_without_a_manifest_can_do_what_its_class_can(net, tmp_path):
    (tmp_path / "algorithm.py").write_text(archive.module_of(Ones))

    algo = net.algos.add(tmp_path, name="ones in a folder")

    assert algo.capabilities == net.algos.add(Ones).capabilities
    plan = Plan("folder")
    plan.init(algo, at="hospital-a")
    assert net.submit(plan).watch(quiet=True).outcome().ok


def archive_files(code):
    return read(archive.of(code).data)
