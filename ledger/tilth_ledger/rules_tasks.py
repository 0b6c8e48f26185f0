"""Rules a task must meet to be registered, and again to begin (R1 to R7, T1, T2, T4, T6, T7, A3).

`form` judges what never changes (kind, inputs, data, parameters); `judge_rights` judges who may do
what now, and is called twice: when the task is registered, so that a plan that cannot work is
refused at once, and when it begins, so that what was narrowed or withdrawn since binds (P4).

Invariants:
- Nothing here writes a row.
- Every refusal for a missing right on a dataset holds the command that grants it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tilth_ledger import grants, rules_leaving
from tilth_ledger.context import Context, refuse
from tilth_ledger.kinds import KINDS, Kind, outputs_of
from tilth_ledger.lineage import Lineage
from tilth_ledger.rows import Row, RowView

Task = Mapping[str, Any]


def form(context: Context, task: Task, algo: RowView | None) -> None:
    """What a task is made of: inputs, data, objective, algo fit its kind."""
    kind = KINDS[task["kind"]]
    _check_algo(task, kind, algo)
    _check_inputs(task, kind)
    _check_need(task)
    _check_data(context, task, kind)
    _check_environment(context, task, algo)
    _check_objective(context, task, kind)
    _check_narrowing(task, algo)


def _check_algo(task: Task, kind: Kind, algo: RowView | None) -> None:
    stated = task.get("algo")
    if stated is None:
        refuse(
            "R3",
            f"a {task['kind']} task names its algo",
            found="no algo",
            expected="the key of an algo" + _or_builtin(kind),
            remedy="Add the field algo.",
        )
    capabilities = algo["manifest"]["capabilities"] if algo else ["aggregate"]
    if kind.capability not in capabilities:
        refuse(
            "R3",
            f"the algo cannot do this: a {task['kind']} task needs {kind.capability}",
            found="capabilities " + ", ".join(capabilities),
            expected=kind.capability,
            remedy="Choose an algo whose manifest declares it.",
        )


def _or_builtin(kind: Kind) -> str:
    return ' or {"builtin": "mean"}' if kind.capability == "aggregate" else ""


def _check_inputs(task: Task, kind: Kind) -> None:
    inputs = task.get("inputs", ())
    names = [edge["name"] for edge in inputs]
    outputs = sorted(str(edge.get("output", "model")) for edge in inputs)
    heads = outputs.count("head")
    fits = {
        "none": not inputs,
        "any": heads == 0,
        "pair": not inputs or (len(inputs) == 2 and heads == 1),
        "many": bool(inputs) and heads == 0,
        "model": len(inputs) == 1 - heads + 2 * heads and heads <= 1,
    }
    if len({*names}) != len(names):
        _refuse_inputs(task, ", ".join(names), "input names that differ")
    if not fits[kind.inputs]:
        expected = {
            "none": "no inputs",
            "any": "models or trunks, no heads (R6)",
            "pair": "a head and a trunk, or neither",
            "many": "at least one model or trunk, no heads (R6)",
            "model": "one model, or the head and trunk of a composite",
        }
        _refuse_inputs(task, ", ".join(outputs) or "no inputs", expected[kind.inputs])


def _refuse_inputs(task: Task, found: str, expected: str) -> None:
    rule = "R6" if "head" in found and task["kind"] in ("train", "aggregate") else "R4"
    refuse(
        rule,
        f"the inputs do not fit a {task['kind']} task",
        found=found,
        expected=expected,
        remedy=f"Correct the inputs of {task['key']}.",
    )


def _check_need(task: Task) -> None:
    if "need" not in task:
        return
    count = len(task.get("inputs", ()))
    if task["kind"] != "aggregate" or task["need"]["at_least"] > count:
        refuse(
            "R7",
            "need is for aggregates, and asks for no more than there are inputs",
            found=f"at least {task['need']['at_least']} of {count} in a {task['kind']} task",
            expected="an aggregate, at_least from 1 to its number of inputs",
            remedy=f"Correct need of {task['key']}.",
        )


def _check_data(context: Context, task: Task, kind: Kind) -> None:
    data = task.get("data")
    if not kind.labels:
        if data is not None:
            refuse(
                "R1",
                f"a {task['kind']} task works on no data",
                found=data["set"],
                expected="no field data",
                remedy=f"Remove data from {task['key']}.",
            )
        return
    if data is None:
        refuse(
            kind.label_rule,
            f"a {task['kind']} task works on a set of samples",
            found="no field data",
            expected="a dataset and one of its sets",
            remedy=f"Add data to {task['key']}.",
        )
    _check_set(context, task, kind)
    owner = data["dataset"].partition("/")[0]
    if task["worker"] != owner:
        refuse(
            "R2",
            "only its owner's node works on a dataset",
            found=f"worker {task['worker']}",
            expected=owner,
            remedy=f"Set the worker of {task['key']} to {owner}.",
        )


def _check_set(context: Context, task: Task, kind: Kind) -> None:
    data = task["data"]
    row = context.need("sampleset", data["set"])
    if row["dataset"] != data["dataset"] or row["label"] not in kind.labels:
        refuse(
            kind.label_rule,
            f"a {task['kind']} task cannot work on this set",
            found=f"{data['set']}: label {row['label']}, of {row['dataset']}",
            expected=f"a set of {data['dataset']} labelled {' or '.join(kind.labels)}",
            remedy="Choose another set: `tilth data sets NAME` lists them.",
        )
    if row["status"] != "sealed":
        refuse(
            "D5",
            "the sample set is not in use",
            found=f"{data['set']} is {row['status']}",
            expected="a sealed set with active samples only",
            remedy="Use another set; one with a withdrawn sample is retired for new tasks.",
        )


def _check_environment(context: Context, task: Task, algo: RowView | None) -> None:
    """The opener runs in the algo's environment, so that must state all that the opener's states,
    in the same words. What ships with Tilth brings its own."""
    if algo is None or "data" not in task:
        return
    dataset = context.need("dataset", task["data"]["dataset"])
    if algo["environment"] == dataset["environment"]:
        return
    has, needs = (
        context.need("environment", row["environment"])["spec"] for row in (algo, dataset)
    )
    lacking = [each for each in needs["requirements"] if each not in has["requirements"]]
    if has["python"] != needs["python"]:
        lacking.insert(0, f"python {needs['python']}")
    if lacking:
        refuse(
            "R3",
            "the algo's environment lacks what the dataset's opener needs",
            found=f"python {has['python']}, {', '.join(has['requirements']) or 'nothing else'}",
            expected=f"also {', '.join(lacking)}, as environment {dataset['environment']} states",
            remedy="Register the algo in an environment that states these too:"
            " `tilth algo add FOLDER --environment NAME`.",
        )


def _check_objective(context: Context, task: Task, kind: Kind) -> None:
    if kind.objective == ("objective" in task):
        return
    refuse(
        "T4",
        "a test names the objective whose metric scores it; other tasks name none",
        found=f"{task['kind']} with objective {task.get('objective', 'none')}",
        expected="the key of an objective" if kind.objective else "no objective",
        remedy=f"Correct objective of {task['key']}.",
    )


def _check_narrowing(task: Task, algo: RowView | None) -> None:
    made = outputs_of(task["kind"], algo)
    for name in task.get("outputs", {}):
        if name not in made:
            refuse(
                "P2",
                "the task makes no such output",
                found=name,
                expected=", ".join(made) or "no outputs",
                remedy=f"Correct outputs of {task['key']}.",
            )


def judge_rights(
    context: Context, plan: Row, task: Task, inputs: Mapping[str, tuple[Lineage | RowView, bool]]
) -> None:
    """Who may do what now. `inputs`: name -> (lineage of a model to come, or the row of one that
    exists; whether it comes from outside the plan)."""
    rules_leaving.check_worker(context, task["key"], task["worker"])
    _judge_algo(context, plan, task)
    _judge_dataset(context, plan, task)
    if "objective" in task:
        context.usable("objective", task["objective"])
        _need_use(context, "objective", task["objective"], plan["owner"])
    if task["kind"] == "aggregate":
        _judge_aggregator(context, task)
    for name in sorted(inputs):
        model, outside = inputs[name]
        _judge_model(context, plan, task, name, model, outside)


def _judge_algo(context: Context, plan: Row, task: Task) -> None:
    if not isinstance(task["algo"], str):
        return
    algo = context.usable("algo", task["algo"])
    context.usable("environment", algo["environment"])
    for organization in (plan["owner"], task["worker"]):
        if not grants.allows(context.rights.algo(task["algo"]), organization):
            refuse(
                "R3",
                "the right `use` on the algo is missing",
                found=f"{organization} on {algo['name']}",
                expected=grants.show(context.rights.algo(task["algo"])),
                remedy=f"Ask {algo['owner']} to register the algo with a grant for it.",
            )


def _judge_dataset(context: Context, plan: Row, task: Task) -> None:
    kind = KINDS[task["kind"]]
    if not kind.right:
        return
    data = task["data"]
    dataset = context.usable("dataset", data["dataset"])
    _check_set(context, task, kind)
    granted = context.rights.dataset(data["dataset"], kind.right, plan["key"])
    if not grants.allows(granted, plan["owner"]):
        command = context.rights.grant_command(data["dataset"], kind.right, plan["owner"])
        refuse(
            kind.rule,
            f"the right `{kind.right}` on the dataset is missing",
            found=f"{plan['owner']} on {dataset['name']} of {dataset['owner']}",
            expected=grants.show(granted),
            remedy=f"{dataset['owner']} grants it with: {command}",
        )


def _need_use(context: Context, noun: str, key: str, organization: str) -> None:
    granted = context.rights.objective(key)
    if not grants.allows(granted, organization):
        refuse(
            "T4",
            f"the right `use` on the {noun} is missing",
            found=f"{organization} on {key}",
            expected=grants.show(granted),
            remedy=f"Ask {key.partition('/')[0]} for it.",
        )


def _judge_aggregator(context: Context, task: Task) -> None:
    row = context.need("organization", task["worker"])
    if not row["aggregates"]:
        refuse(
            "R7",
            "the worker has not said that it aggregates",
            found=task["worker"],
            expected="an organization that aggregates",
            remedy=f"An admin of {task['worker']} runs `tilth organization update --aggregates`,"
            " or choose another worker.",
        )


def _judge_model(
    context: Context, plan: Row, task: Task, name: str, model: Lineage | RowView, outside: bool
) -> None:
    lineage = model if isinstance(model, Lineage) else Lineage.read(model)
    use = (
        context.rights.use(model)
        if isinstance(model, Lineage)
        else context.rights.model(model, "use")
    )
    tests = KINDS[task["kind"]].right == "test"
    users = [task["worker"], plan["owner"]] if outside or tests else [task["worker"]]
    for organization in users:
        if not grants.allows(use, organization):
            rule = {"aggregate": "R7", "test": "T4", "predict": "T4"}.get(task["kind"], "R3")
            refuse(
                rule,
                "the right `use` on an input model is missing",
                found=f"{organization} on input {name} of {task['key']}",
                expected=grants.show(use),
                remedy=_model_remedy(context, lineage, organization),
            )


def _model_remedy(context: Context, lineage: Lineage, organization: str) -> str:
    blockers = context.rights.blockers(lineage, organization)
    if not blockers:
        return "Ask the owner of its algo, its plan or its import to allow it."
    commands = (
        f"{dataset.partition('/')[0]} grants it with:"
        f" {context.rights.grant_command(dataset, right, organization)}"
        for dataset, right in blockers[:5]
    )
    return "; ".join(commands)


def judge_probe(context: Context, plan: Row, task: Task) -> None:
    """Rule T7: a test on part of an objective's test samples needs the owner's `probe` right."""
    if task["kind"] != "test" or not touches_part(context, task):
        return
    dataset = task["data"]["dataset"]
    granted = context.rights.dataset(dataset, "probe", plan["key"])
    if not grants.allows(granted, plan["owner"]):
        command = context.rights.grant_command(dataset, "probe", plan["owner"])
        refuse(
            "T7",
            "a test on a part of an objective's test samples needs the right `probe`",
            found=f"{plan['owner']} on {task['data']['set']}",
            expected=grants.show(granted),
            remedy="Test on the objective's whole set, or"
            f" {dataset.partition('/')[0]} grants it with: {command}",
        )


def objectives_touched(context: Context, task: Task) -> dict[str, int]:
    """Objectives whose newest test samples a test touches, with that revision (T7)."""
    tested = task["data"]["set"]
    sets = [tested]
    sets += [
        k.removeprefix(f"overlap/{tested}/") for k, _ in context.rows.scan(f"overlap/{tested}/")
    ]
    found: dict[str, int] = {}
    for key in sets:
        prefix = f"objective-set/{key}/"
        for name, row in context.rows.scan(prefix):
            objective = name.removeprefix(prefix)
            current = context.need("objective", objective)
            if row["revision"] == current["revision"] and current["status"] == "active":
                found[objective] = row["revision"]
    return found


def touches_part(context: Context, task: Task) -> bool:
    tested = task["data"]["set"]
    touched = objectives_touched(context, task)
    if "selection" in task["data"]:
        return bool(touched)
    own = {
        name.removeprefix(f"objective-set/{tested}/"): row["revision"]
        for name, row in context.rows.scan(f"objective-set/{tested}/")
    }
    return any(own.get(objective) != revision for objective, revision in touched.items())
