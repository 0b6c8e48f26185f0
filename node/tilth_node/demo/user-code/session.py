"""What the people of the three hospitals do, with the SDK alone: the second half of `tilth demo`.

Started as `python session.py FOLDER`, with one profile per hospital below $TILTH_HOME. It writes
the data while the nodes start, then waits for a line on standard input. What it did stands in
FOLDER/result.json afterwards.

hospital-a organizes the benchmark and submits; hospital-b mixes the models; all three own data.
"""

import json
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import algos
import digits
from chart import chart

import tilth
from tilth import profiles, verifier
from tilth.plan import Plan
from tilth.strategies import FedAvg
from tilth_node.demo import screen

HERE = Path(__file__).parent
HOSPITALS = tuple(digits.WRITERS)
ROUNDS = 10


def main(folder, quiet):
    """The whole session; FOLDER/result.json is written at its end."""
    out = screen.stdout(quiet=quiet, chapter=1)
    shares = prepare(folder)
    orders = json.loads(sys.stdin.readline())
    nets = {}
    for name in HOSPITALS:  # one process plays all three: what one has written, the others read
        beside = nets.get(HOSPITALS[0])
        nets[name] = arrive(name, folder, orders["addresses"][name], beside)
    with out.chapter("Data stay where they are"):
        sites = register_data(nets, folder, shares, out)
    with out.chapter("One objective, accepted by every owner of its test sets"):
        goal = agree_on_objective(nets, sites, orders["grade"], out)
    net = nets["hospital-a"]
    rounds = int(orders.get("rounds", ROUNDS))
    with out.chapter(f"Two algorithms, {rounds} rounds of federated averaging each"):
        runs = train(net, sites, goal, rounds, out)
    with out.chapter("Two baselines beside them"):
        runs |= baselines(net, folder, sites, goal, out)
    with out.chapter("The leaderboard, the same on all three nodes"):
        boards = {
            name: each.leaderboard(each.objectives.one(name=goal.name))
            for name, each in nets.items()
        }
        out.say(str(boards["hospital-a"]))
        texts = {str(board) for board in boards.values()}
        if len(texts) != 1:
            raise SystemExit("the three nodes show different leaderboards")
    with out.chapter("A proof that needs no node"):
        proof = prove(runs["HiddenLayer"], folder, out)
    result = {
        "shares": {name: {k: asdict(v) for k, v in each.items()} for name, each in shares.items()},
        "boards": {name: board.as_dict() for name, board in boards.items()},
        "plans": {name: run.key for name, run in runs.items()},
        "proof": proof,
    }
    (folder / "result.json").write_text(json.dumps(result, indent=2), encoding="utf-8")


def prepare(folder):
    """Everything that needs no node; returns what each hospital got."""
    shares = {name: digits.write(name, folder / name / "data") for name in HOSPITALS}
    perfect = folder / "perfect"
    perfect.mkdir()
    for file in sorted((HERE / "perfect").iterdir()):
        (perfect / file.name).write_bytes(file.read_bytes())
    digits.write_answers(perfect)
    return shares


def arrive(name, folder, address, beside):
    """A person with a key of their own; the organization's admin lets that key in."""
    place = {"address": address, "organization": name, "genesis": folder / "genesis.json"}
    mine = profiles.add(name, **place)
    profiles.add(f"{name}-admin", key=folder / name / "keys" / "admin.seed", **place)
    with tilth.connect(f"{name}-admin") as admin:
        admin.identities.add(
            mine.signing_key().public.hex, roles=["owner", "organizer", "scientist"]
        )
    return tilth.connect(name, beside=beside)


def register_data(nets, folder, shares, out):
    """Each owner registers samples and says who may use them; returns the three datasets."""
    for name, net in nets.items():
        data = folder / name / "data"
        made = net.datasets.add(
            "digits",
            opener=HERE / "opener",
            train=data / "train",
            test=data / "test",
            description="Handwritten digits, 8 x 8 pixels",
        )
        net.datasets.grant(made, train=["hospital-a"], test="public", mixed="participants")
        train, test = shares[name]["train"], shares[name]["test"]
        writers = f"{len(digits.WRITERS[name])} writers"
        out.say(
            f"{name}  {writers:>10}   train {train.images:4} images in {train.samples:2} samples"
            f"   test {test.images:4} images in {test.samples:2} samples"
        )
    return nets["hospital-a"].datasets.list(name="digits")


def agree_on_objective(nets, sites, grade, out):
    """hospital-a defines the objective; each owner accepts its own test set into it."""
    goal = nets["hospital-a"].objectives.add(
        "digits accuracy",
        metric="accuracy",
        datasets=sites,
        combine="pooled",
        minimum_grade=grade,
    )
    for net in nets.values():
        net.objectives.accept(net.objectives.find(goal.key))
    goal = nets["hospital-a"].objectives.one(name="digits accuracy")
    owners = ", ".join(each.owner for each in goal.sets if each.accepted)
    out.say(f"accuracy, pooled over the test sets of {owners}; isolation at least {grade}")
    return goal


def train(net, sites, goal, rounds, out):
    """Both algorithms, one after the other; returns their runs by name."""
    runs = {}
    for algorithm in (algos.Softmax, algos.HiddenLayer):
        algo = net.algos.add(algorithm)
        strategy = FedAvg(algo, rounds=rounds, at_least=2, aggregate_at="hospital-b")
        plan = strategy.plan(sites, validate_every=1, final_test=goal, name=algorithm.__name__)
        begun = time.monotonic()
        run = net.submit(plan).watch(quiet=silent(out))
        seconds = time.monotonic() - begun
        check(run)
        out.say(f"{algorithm.__name__}: {len(plan.tasks)} tasks in {seconds:.1f} s")
        runs[algorithm.__name__] = run
    out.say()
    out.say("Accuracy on train rows held out of training, at all three hospitals together:")
    out.say()
    out.say(chart({name: run.curve().values for name, run in runs.items()}))
    return runs


def baselines(net, folder, sites, goal, out):
    """The majority digit, and an algorithm that carries the answers; returns their runs."""
    majority = FedAvg(net.algos.add(algos.Majority), rounds=1, aggregate_at="hospital-b")
    guess = net.submit(majority.plan(sites, final_test=goal, name="Majority"))
    algo = net.algos.add(folder / "perfect")
    plan = Plan("Perfect")
    model = plan.init(algo, at="hospital-a")
    plan.final(model)
    for each in goal.sets:
        plan.test(algo, model, goal, each, tag="final")
    perfect = net.submit(plan)
    runs = {"Majority": guess.watch(quiet=silent(out)), "Perfect": perfect.watch(quiet=silent(out))}
    for run in runs.values():
        check(run)
    out.say("Majority: always the most frequent digit. Perfect: carries the answers with it.")
    return runs


def silent(out):
    """Progress is for somebody who looks at a terminal; elsewhere it would be a list of numbers."""
    return out.quiet or not sys.stderr.isatty()


def check(run):
    """A demo whose plan failed has failed."""
    outcome = run.outcome()
    if not outcome.ok:
        raise SystemExit(f"plan {run.plan.name} did not finish:\n{outcome}")


def prove(run, folder, out):
    """Exports the row of a final model, verifies it, and verifies it with one byte changed."""
    row = Path(run.final.export(folder / "row.json"))
    good = verify(folder, row)
    out.say("tilth verify row.json --genesis genesis.json")
    out.say(shortened(good.stdout))
    changed = folder / "row-changed.json"
    changed.write_bytes(change_one_byte(row.read_bytes()))
    bad = verify(folder, changed)
    out.say()
    out.say("The same file with one byte changed:")
    out.say((bad.stdout or bad.stderr).strip())
    if good.returncode != 0 or bad.returncode == 0:
        raise SystemExit("the verifier did not tell the true row from the changed one")
    return {
        "row": row.name,
        "accepted": good.returncode == 0,
        "changed_refused": bad.returncode != 0,
    }


def verify(folder, row):
    """The verifier as a stranger runs it: one file, no node, no network."""
    command = [sys.executable, "-I", verifier.__file__, str(folder / "genesis.json"), str(row)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def shortened(report):
    """The verdict, and what it rests on; the digests stand in the full report."""
    lines = report.strip().splitlines()
    return "\n".join([lines[0], *(line for line in lines if line.strip().startswith(("+ ", "- ")))])


def change_one_byte(content):
    """The same bytes with one hexadecimal digit of what is proven turned into another."""
    middle = content.index(b'"content":"') + 200
    place = next(i for i in range(middle, len(content)) if chr(content[i]) in "0123456789abcdef")
    other = b"1" if content[place : place + 1] == b"0" else b"0"
    return content[:place] + other + content[place + 1 :]


if __name__ == "__main__":
    # Ctrl-C ends this at once; the command that started it cleans up and says so.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    main(Path(sys.argv[1]), quiet="--quiet" in sys.argv)
