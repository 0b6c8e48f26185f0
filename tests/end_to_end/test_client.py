"""The client against real nodes: repeating is harmless, refusals help, a cancel is the end."""

import json
import secrets
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
from network import Network

import tilth
from tilth import InvalidInput, Refused, profiles
from tilth.algorithm import Algorithm, Parameter, weights
from tilth.cli import main
from tilth.plan import Model
from tilth.strategies import FedAvg

OPENER = """
import numpy as np
from tilth.algorithm import Opener

class Tables(Opener):
    def get_X(self, folders):
        return np.concatenate([np.load(f / "table.npy")[:, :-1] for f in folders])

    def get_y(self, folders):
        return np.concatenate([np.load(f / "table.npy")[:, -1] for f in folders]).astype(int)
"""


class Threshold(Algorithm):
    parameters = [Parameter("rate", float, 0.5, low=0, high=1)]

    def start(self, task):
        return {"t": np.zeros(1)}

    def train(self, data, model, task):
        task.report(mean=float(data.X.mean()))
        model["t"] = (1 - task.parameters["rate"]) * model["t"] + data.X.mean(axis=0)
        return model

    def predict(self, features, model, task):
        return (features.X[:, 0] > model["t"][0]).astype(int)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder below the nodes' data roots, with an opener."""
    folder = tmp_path_factory.mktemp("client")
    (folder / "opener").mkdir()
    (folder / "opener" / "opener.py").write_text(OPENER)
    return folder


@pytest.fixture(scope="module")
def sites(place):
    """Two hospitals, each with a person who may do everything but run the node."""
    (place / "nodes").mkdir()
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setenv("TILTH_HOME", str(place / "home"))
        network = stack.enter_context(Network(place / "nodes", 2, data_roots=[place]))
        network.start()
        mine = stack.enter_context(arrive(network, network.sites[0]))
        yield [mine, stack.enter_context(arrive(network, network.sites[1], beside=mine))]


def arrive(network, site, beside=None):
    """A person's profile of the hospital's name, let in by its admin."""
    reach = {
        "address": site.ready["client_address"],
        "organization": site.organization,
        "genesis": network.genesis_file,
    }
    mine = profiles.add(site.organization, **reach)
    profiles.add(f"{site.organization}-admin", key=site.folder / "keys" / "admin.seed", **reach)
    with tilth.connect(f"{site.organization}-admin") as admin:
        roles = ["owner", "organizer", "scientist"]
        admin.identities.add(mine.signing_key().public.hex, roles=roles)
    return tilth.connect(site.organization, beside=beside)


def samples(folder, count):
    """New folders of one small table each; no two ever hold the same bytes."""
    for _ in range(count):
        sample = folder / secrets.token_hex(4)
        sample.mkdir(parents=True)
        x = np.random.default_rng().normal(size=(5, 1))
        np.save(sample / "table.npy", np.hstack([x, x > 0.1]))
    return folder


@pytest.fixture
def name():
    """A dataset's name that no other test uses."""
    return f"tables-{secrets.token_hex(4)}"


@pytest.fixture
def data(sites, place, name):
    """One dataset per hospital; the second lets nobody in."""
    made = [
        net.datasets.add(
            name,
            opener=place / "opener",
            train=samples(place / net.organization / name / "train", 4),
            test=samples(place / net.organization / name / "test", 3),
        )
        for net in sites
    ]
    sites[0].rows.reach()  # commands that look there find both
    return made


@pytest.fixture
def guarded(sites, place, name):
    """A dataset of the second hospital: the first may train on it, after a word each time."""
    folder = samples(place / "guarded" / name, 2)
    made = sites[1].datasets.add(name, opener=place / "opener", train=folder, approval="required")
    return sites[1].datasets.grant(made, train=["hospital-a"])


def test_registering_the_same_twice_changes_nothing(sites, data, place, name):
    net = sites[0]
    net.rows.reach()
    size = net.status()["size"]

    again = net.datasets.add(name, train=place / "hospital-a" / name / "train")
    assert again == data[0]
    assert net.status()["size"] == size

    algo = net.algos.add(Threshold)
    assert net.algos.add(Threshold) == algo
    assert [each.key for each in net.algos.list(name="Threshold")] == [algo.key]


def test_more_samples_make_a_larger_current_set(sites, data, place, name):
    more = samples(place / "hospital-a" / name / "more", 2)

    grown = sites[0].datasets.add(name, train=more)

    assert grown.set_of("train").count == 6
    assert grown.set_of("test") == data[0].set_of("test")


@pytest.mark.rule("D4")
def test_the_same_bytes_are_never_train_and_test(sites, data, place, name):
    with pytest.raises(Refused, match="D4"):
        sites[0].datasets.add(name, test=place / "hospital-a" / name / "train")


def test_a_new_dataset_needs_an_opener(sites, place, name):
    with pytest.raises(InvalidInput, match=f"tilth data add {name} --opener DIR"):
        sites[0].datasets.add(name, train=place)


def test_the_check_names_the_grant_that_is_missing_and_submission_agrees(sites, data, name):
    net = sites[0]
    algo = net.algos.add(Threshold)
    plan = FedAvg(algo, rounds=2, aggregate_at="hospital-b").plan(data, name=name)

    check = net.check(plan)

    assert not check.ok
    command = f"tilth data grant {name} --train hospital-a"
    assert f"hospital-b grants it with: {command}" in str(check)
    with pytest.raises(Refused, match=command):
        net.submit(plan)
    assert name not in {each.name for each in net.plans.list()}

    sites[1].datasets.grant(data[1], train=["hospital-a"])
    assert net.check(plan).ok


@pytest.mark.rule("R5")
def test_a_parameter_out_of_range_is_found_by_the_check(sites, data):
    net = sites[0]
    algo = net.algos.add(Threshold)
    plan = FedAvg(algo, rounds=1, aggregate_at="hospital-a", parameters={"rate": 2.0}).plan(
        data[:1]
    )

    [problem] = net.check(plan).problems
    assert problem.rule == "R5"


def test_a_canceled_plan_is_over_at_once(sites, data):
    net = sites[0]
    algo = net.algos.add(Threshold)
    plan = FedAvg(algo, rounds=50, aggregate_at="hospital-a").plan(data[:1])

    run = net.submit(plan)
    run.cancel()

    outcome = run.watch(quiet=True).outcome()
    assert run.plan.status == "canceled"
    assert not outcome.ok
    assert "canceled" in outcome.states
    with pytest.raises(InvalidInput, match="left to stop"):
        run.cancel()
    with pytest.raises(InvalidInput, match="not on a leaderboard"):
        _ = run.final


def test_every_reading_command_answers_in_words_and_in_json(sites, data, capsys, name):
    net = sites[0]
    goal = net.objectives.add("threshold", metric="accuracy", datasets=data[:1])
    plan = FedAvg(net.algos.add(Threshold), rounds=1, aggregate_at="hospital-a")
    run = net.submit(plan.plan(data[:1], final_test=goal)).watch(quiet=True)
    task, trained = (each.key for each in run.tasks()[:2])
    assert run.reports()[trained]["scalars"].keys() == {"mean"}
    commands = [
        *("algo list", "algo show Threshold", "approval list", "leaderboard threshold"),
        *("leaderboard threshold --all --revision 1", "data list", f"data sets {name}"),
        *("environment list", "identity list", "ledger show 0"),
        *("ledger row organization/hospital-a", "model list", f"model list {run.key}"),
        *("objective list", "objective show threshold", "objective accept threshold"),
        *("organization list", "plan list", f"plan show {run.key}", f"plan watch {run.key}"),
        *(f"plan retry {run.key}", "profile list", "status", f"task show {task}"),
        f"task report {trained}",
    ]

    for command in commands:
        for more in ([], ["--json"]):
            words = [*command.split(), "--profile", "hospital-a", *more]
            code, shown = main(words), capsys.readouterr()
            assert (command, code) == (command, 0), shown.err
            assert shown.out.strip()
        json.loads(shown.out)


def test_the_writing_commands_of_an_admin(sites, capsys):
    public = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    admin = ["--profile", "hospital-b-admin", "--json"]

    assert main(["identity", "add", public, "--role", "auditor", *admin]) == 0
    added = json.loads(capsys.readouterr().out)["identity"]
    assert main(["identity", "revoke", added, *admin]) == 0
    assert main(["organization", "update", "--no-aggregates", "--name", "Second", *admin]) == 0
    states = {each["key"]: each["status"] for each in sites[1].identities.list()}
    assert states[added] == "revoked"
    sites[0].rows.at_least(sites[1].status()["size"])
    after = {each["organization"]: each for each in sites[0].organizations.list()}
    assert (after["hospital-b"]["name"], after["hospital-b"]["aggregates"]) == ("Second", False)
    assert main(["organization", "update", *admin]) == 1
    assert main(["organization", "update", "--aggregates", *admin]) == 0
    sites[0].rows.at_least(sites[1].status()["size"])  # other tests let it aggregate


def test_a_plan_submitted_again_goes_on_where_the_first_try_stopped(sites, data):
    net = sites[0]
    algo = net.algos.add(Threshold)
    plan = FedAvg(algo, rounds=150, aggregate_at="hospital-a").plan(data[:1])
    first, *rest = plan.entries("hospital-a")
    assert rest
    net.record(*first)
    assert net.plans.status(f"hospital-a/{plan.id}").status == "unsealed"

    run = net.submit(plan)
    assert run.plan.count == len(plan.tasks)
    run.cancel()
    assert net.submit(plan).plan.status == "canceled"


class Broken(Threshold):
    def train(self, data, model, task):
        print("the rate is", task.parameters["rate"])
        raise ValueError("this never works")


def test_a_failed_task_says_why_and_can_be_tried_again(sites, data):
    net = sites[0]
    plan = FedAvg(net.algos.add(Broken), rounds=1, aggregate_at="hospital-a").plan(data[:1])

    run = net.submit(plan).watch(quiet=True)

    outcome = run.outcome()
    assert outcome.states["failed"] == 1
    assert f"tilth plan retry {run.key}" in str(outcome)
    assert "this never works" in run.logs()
    assert "the rate is 0.5" in run.logs()

    [again] = run.retry()
    assert again.kind == "train"
    run.watch(quiet=True)
    assert net.tasks.one(again.key).attempt == 2


def tilth_command(*words, **more):
    command = [sys.executable, "-m", "tilth.cli", *words]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **more)


@contextmanager
def ending(process):
    """A test that fails must not wait for a command that goes on."""
    try:
        yield
    finally:
        process.kill()


@pytest.mark.rule("P5")
def test_a_plan_that_waits_for_an_approval_says_so_and_goes_on_when_it_comes(sites, guarded):
    mine, other = sites
    algo = mine.algos.add(Threshold)
    run = mine.submit(FedAvg(algo, rounds=1, aggregate_at="hospital-b").plan([guarded]))

    watching = tilth_command("plan", "watch", run.key, "--profile", "hospital-a")
    with watching, ending(watching):
        lines = iter(watching.stderr.readline, "")
        assert any("waits for the approval of hospital-b" in line for line in lines)
        watching.send_signal(signal.SIGINT)
        assert "it goes on" in watching.stderr.read()
    assert run.outcome().states.get("waiting")

    other.rows.at_least(mine.status()["size"])
    [asked] = {each.plan for each in other.approvals.asked()}
    assert asked == run.key
    assert other.approvals.give(plan=asked) == (guarded.key,)
    assert run.watch(quiet=True).outcome().ok


@pytest.mark.rule("P5")
def test_a_denied_task_fails_and_does_not_wait(sites, guarded):
    mine, other = sites
    plan = FedAvg(mine.algos.add(Threshold), rounds=1, aggregate_at="hospital-b").plan([guarded])
    run = mine.submit(plan)

    watched = mine.transport.watch([f"task/{each.key}" for each in run.tasks()])
    asked = next(c for c in watched if any(r and r.get("wait") == "approval" for _, r in c.rows))
    other.rows.at_least(asked.size)
    other.approvals.deny(plan=run.key)

    assert "denied" in str(run.watch(quiet=True).outcome())


def test_a_stranger_is_told_who_lets_keys_in_and_only_an_admin_does(sites, place):
    net = sites[0]
    visitor = profiles.write_key(place / "visitor.key")
    reach = {
        "address": net.profile.address,
        "organization": "hospital-a",
        "genesis": net.profile.genesis,
    }
    profiles.add("visitor", key=place / "visitor.key", **reach)
    with tilth.connect("visitor") as unknown, pytest.raises(tilth.TilthError, match="identity add"):
        unknown.status()

    with pytest.raises(Refused, match="A1"):  # an owner is no admin
        net.identities.add(visitor.public.hex, roles=["auditor"])


def cli(capsys, *words, profile="hospital-a"):
    """What a command answers, in words and in JSON; it must succeed."""
    code, shown = main([*words, "--profile", profile, "--json"]), capsys.readouterr()
    assert code == 0, shown.out + shown.err
    return json.loads(shown.out)


@pytest.mark.rule("B4")
def test_a_leaderboard_is_cut_filtered_paged_looked_back_on_and_recorded(
    sites, data, capsys, name, tmp_path
):
    net = sites[0]
    goal = net.objectives.add(name, metric="accuracy", datasets=data[:1])
    runs = []
    for number in (0, 1):
        strategy = FedAvg(net.algos.add(Threshold), rounds=1 + number, aggregate_at="hospital-a")
        made = strategy.plan(data[:1], final_test=goal, name=f"{name}-{number}")
        runs.append(net.submit(made).watch(quiet=True))
        if number == 0:
            size = net.status()["size"]
    board = cli(capsys, "leaderboard", name)["rows"]
    assert len(board) == 2

    assert {r["rank"] for r in cli(capsys, "leaderboard", name, "--top", "1")["rows"]} == {1}
    [only] = cli(capsys, "leaderboard", name, "--where", f"plan={runs[1].key}")["rows"]
    assert only["plan"] == runs[1].key
    assert len(cli(capsys, "leaderboard", name, "--where", "algo=Threshold")["rows"]) == 2
    assert cli(capsys, "leaderboard", name, "--where", "organization=hospital-b")["rows"] == []
    assert len(cli(capsys, "leaderboard", name, "--group-by", "organization")["rows"]) == 1

    first = cli(capsys, "leaderboard", name, "--limit", "1")
    second = cli(capsys, "leaderboard", name, "--limit", "1", "--page", str(first["next"]))
    assert [*first["rows"], *second["rows"]] == board
    assert second["next"] is None

    [early] = cli(capsys, "leaderboard", name, "--at", str(size))["rows"]
    assert early["plan"] == runs[0].key
    [history] = cli(capsys, "leaderboard", name, "--history")
    assert history["rows"] == board
    [point] = cli(capsys, "leaderboard", name, "--curve", runs[0].key)
    assert point["value"] == early["value"]

    for wrong in (["--where", "color=red"], ["--where", "red"], ["--group-by", "color"]):
        assert main(["leaderboard", name, *wrong, "--profile", "hospital-a"]) == 1
        assert "to do" in capsys.readouterr().err
    assert main(["leaderboard", name, "--at", "99999999", "--profile", "hospital-a"]) == 1

    # The members record what stands, and a stranger reads it.
    before = net.status()["size"]
    exported = cli(capsys, "row", "export", name, "--standing", "--out", str(tmp_path / "row.json"))
    report = tilth.verify(exported["file"], genesis=net.profile.genesis)
    assert report.ok, report.refusal
    assert report.facts["stood"].startswith(f"at size {before} (")
    assert report.facts["stood"].endswith("rank 1, one of 2 rows")
    assert report.facts["not checked"] == f"revocation after size {before}"
    listed = cli(capsys, "ledger", "list", "--limit", "1")
    assert (listed[0]["index"], listed[0]["payload"]["count"]) == (before + 1, 2)
    assert (
        main(["leaderboard", name, "--record", "--revision", "9", "--profile", "hospital-a"]) == 1
    )


@pytest.mark.rule("L5")
def test_an_open_plan_is_extended_and_closed(sites, data, capsys, place):
    net = sites[0]
    algo = net.algos.add(Threshold)
    plan = tilth.Plan("open", open=True)
    start = plan.init(algo, at="hospital-a")
    run = net.submit(plan)
    assert not run.plan.over

    plan.train(algo, data[0], start)
    assert run.extend(plan).plan.count == 2
    [[_, part]] = plan.entries("hospital-a")
    again = {**part["tasks"][1], "key": net.new_key()}
    (place / "more.json").write_text(json.dumps([again]))
    assert cli(capsys, "plan", "extend", run.key, str(place / "more.json"))["count"] == 3
    (place / "wrong.json").write_text("{}")
    assert main(["plan", "extend", run.key, str(place / "wrong.json")]) == 1
    capsys.readouterr()

    cli(capsys, "plan", "close", run.key)
    assert run.watch(quiet=True).plan.status == "done"
    with pytest.raises(Refused, match="L5"):
        run.extend([{**again, "key": net.new_key()}])


@pytest.mark.rule("L3")
def test_a_person_cancels_a_task_and_lets_an_aggregate_begin(sites, place, guarded, name, capsys):
    mine, _ = sites
    own = mine.datasets.add(
        f"{name}-own", opener=place / "opener", train=samples(place / "own" / name, 2)
    )
    algo = mine.algos.add(Threshold)
    made = FedAvg(algo, rounds=1, aggregate_at="hospital-a", at_least=1).plan([own, guarded])
    run = mine.submit(made)
    trained = next(t for t in made.tasks if t.kind == "train" and t.worker == "hospital-a")
    mixed = next(t for t in made.tasks if t.kind == "aggregate")
    watched = mine.transport.watch([f"task/hospital-a/{trained.id}"])
    next(c for c in watched if any(row and row["state"] == "done" for _, row in c.rows))

    closed = cli(capsys, "task", "close", f"hospital-a/{mixed.id}")
    assert closed["state"] in {"todo", "doing", "done"}
    asked = next(t for t in made.tasks if t.kind == "train" and t.worker == "hospital-b")
    assert cli(capsys, "task", "cancel", f"hospital-a/{asked.id}")["state"] == "canceled"

    ended = run.watch(quiet=True).plan
    assert (ended.status, ended.canceled) == ("canceled", 1)
    with pytest.raises(Refused, match="L3"):
        mine.tasks.cancel(f"hospital-a/{asked.id}")


def test_a_plan_whose_tasks_failed_and_were_canceled_is_over(sites, data):
    net = sites[0]
    made = FedAvg(net.algos.add(Broken), rounds=2, aggregate_at="hospital-a", at_least=1)

    ended = net.submit(made.plan(data[:1])).watch(quiet=True).plan

    assert (ended.status, ended.over) == ("failed", True)
    assert ended.done + ended.failed + ended.canceled == ended.count
    [listed] = [each for each in net.plans.list() if each.key == ended.key]
    assert listed.status == "failed"


@pytest.mark.rule("P2")
def test_a_model_is_imported_trained_on_narrowed_and_widened(sites, data, capsys, place):
    net = sites[0]
    file = place / "start.h5"
    file.write_bytes(weights.write({"t": np.zeros(1)}))
    options = ["--origin", "a study", "--use", "hospital-b"]
    brought = cli(capsys, "model", "import", str(file), *options)
    assert net.models.download(brought["task"], place / "brought").is_dir()

    plan = tilth.Plan("from elsewhere")
    plan.train(net.algos.add(Threshold), data[0], Model(brought["task"]))
    run = net.submit(plan).watch(quiet=True)
    [task] = run.tasks()
    assert task.state == "done"

    cli(capsys, "model", "narrow", task.key, "--download", "hospital-a", "--use", "hospital-a")
    cli(capsys, "model", "widen", task.key, "--use", "hospital-b")
    row = net.rows.get(f"model/{task.key}/model")
    assert row["consents"] == {"use": {"hospital-b": ["hospital-a"]}}
    with pytest.raises(InvalidInput, match="tilth model narrow"):
        net.models.narrow(task.key)
    with pytest.raises(InvalidInput, match="keeps the grants"):
        net.models.narrow(brought["task"], use=["hospital-a"])
    with pytest.raises(InvalidInput, match="no model"):
        net.models.import_(place / "nothing.h5", origin="nowhere")
