"""The objects nested in operations: policies, manifests, tasks, scores, receipts.

Invariants:
- As closed as the table of `operations`: no object accepts a field it does not name.
- The vocabulary (roles, labels, kinds, grades, reasons...) stands here once; the rules import it.

Left to others: what the values mean (the `rules_*` modules).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from tilth_ledger import limits
from tilth_ledger.schema import (
    DECIMAL,
    DIGEST,
    KEY,
    LABEL,
    METADATA,
    NAME,
    ORGANIZATION,
    SLUG,
    TAG,
    TIME_MS,
    Boolean,
    Choice,
    Either,
    Grant,
    Integer,
    ListOf,
    MapOf,
    Path,
    Pattern,
    Record,
    Tagged,
    Text,
    Type,
)

ROLES = ("admin", "owner", "organizer", "scientist", "auditor", "node")
RIGHTS = ("train", "test", "updates", "mixed", "logs", "report", "details", "probe")
LABELS = ("train", "test", "none")
KINDS = ("init", "train", "composite", "aggregate", "test", "predict")
GRADES = ("A", "B", "C", "D")  # best first
COMBINE_RULES = ("by_count", "by_site", "pooled")
CAPABILITIES = ("init", "train", "aggregate", "composite", "predict", "resumable")
BUILTIN_METRICS = (
    "accuracy",
    "balanced_accuracy",
    "f1",
    "f1_binary",
    "kappa",
    "roc_auc",
    "roc_auc_ovr",
    "log_loss",
    "mae",
    "rmse",
    "r2",
)
# Those whose sufficient statistics are integers: a confusion matrix (rule T5).
POOLABLE_METRICS = ("accuracy", "balanced_accuracy", "f1", "kappa")
BUILTIN_AGGREGATIONS = ("mean",)
FAILURE_REASONS = (
    "exit",  # a step ended with another code than 0
    "missing_output",
    "wrong_shape",  # an output is not what the contract says
    "too_large",  # an output, log or report exceeds its bound
    "out_of_memory",
    "time",
    "score",  # no finite score
    "environment",  # it cannot be had
    "data",  # content does not match what was registered (D2)
    "input",  # an input or archive cannot be had
    "rights",  # a right was lost before it ran (P4)
    "denied",  # the data owner denied the approval (P5)
    "approval_expired",
    "canceled",
    "lost",  # the run was lost and cannot be repeated
)
WORKER_REMOVED = "worker_removed"  # the ledger's own word (M7): no worker says it


def record(optional: str = "", /, **fields: Type) -> Record:
    """A record; `optional` names the fields that may be missing, separated by spaces."""
    return Record(MappingProxyType(fields), frozenset(optional.split()))


PATH = Text(1, 255)
SIGNATURE = Pattern(re.compile(r"[0-9a-f]{128}"), "128 lower-case hex digits")
GRANT = Grant()
MIXED_GRANT = Grant(("public", "participants"))
GLOB = Pattern(
    re.compile(r"(?!/)(?!.*(?:^|/)\.\.(?:/|$))[^\x00-\x1f\\]{1,255}"), "a relative glob without .."
)
MANY_DATASETS = ListOf(KEY, 1, limits.DATASETS_PER_SAMPLE)
MODEL_FILE = record(digest=DIGEST, size=Integer(0, limits.MODEL_BYTES), format=LABEL)

DATASET_LIMITS = record(
    model_bytes=Integer(1, limits.MODEL_BYTES),
    log_bytes=Integer(0, 1 << 30),
    report_bytes=Integer(0, 1 << 30),
)
DATASET_GRANTS = record(
    "train test updates mixed logs report details probe min_parties",
    train=GRANT,
    test=GRANT,
    updates=GRANT,
    mixed=MIXED_GRANT,
    logs=GRANT,
    report=GRANT,
    details=GRANT,
    probe=GRANT,
    min_parties=Integer(1, 1_000),
)
ENVIRONMENT_SPEC = record(
    "base lock dockerfile",
    python=Text(1, 40),
    requirements=ListOf(Text(1, 255), 0, limits.REQUIREMENTS),
    base=Text(1, 255),
    lock=DIGEST,
    dockerfile=DIGEST,
)
METRIC = Tagged(
    "form",
    {
        "builtin": record(builtin=Choice(BUILTIN_METRICS)),
        "archive": record(archive=DIGEST, environment=KEY),
    },
)
OBJECTIVE_SET = record(dataset=KEY, set=KEY)
SCALAR = Pattern(re.compile(rf"(?s).{{0,{limits.PARAMETER_TEXT_CHARACTERS}}}"), "text")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter's value as JSON: what exactly it may be, the algo's schema says (R5)."""

    def check(self, value: Any, path: Path) -> None:
        if type(value) is bool:
            return
        if type(value) is int:
            Integer(-(2**53 - 1)).check(value, path)
        elif isinstance(value, (list, tuple)):
            ListOf(self, 0, limits.PARAMETER_ARRAY_ITEMS, distinct=False).check(value, path)
        else:
            SCALAR.check(value, path)

    def describe(self) -> str:
        return "true, false, an integer, text (decimals are text), or a list of these"


@dataclass(frozen=True, slots=True)
class Metric:
    """`{"builtin": name}` or `{"archive": digest, "environment": key}`."""

    def check(self, value: Any, path: Path) -> None:
        form = "builtin" if isinstance(value, Mapping) and "builtin" in value else "archive"
        METRIC.records[form].check(value, path)

    def describe(self) -> str:
        return "a built-in metric or an archive with its environment"


# The tree that a new voter says it holds: signed with its vote key (epochs.copy_text).
TREE_COPY = record(size=Integer(0), root=DIGEST, signature=SIGNATURE)
MEMBER_FILE = Text(1, limits.MEMBER_FILE_CHARACTERS)  # verbatim: its signatures are over its text
MEMBER_CHANGE = Tagged(
    "kind",
    MappingProxyType(
        {
            "admit": record(
                "copy", kind=LABEL, member=MEMBER_FILE, votes=Boolean(), copy=TREE_COPY
            ),
            "remove": record(kind=LABEL, organization=ORGANIZATION),
            "votes": record(
                "copy", kind=LABEL, organization=ORGANIZATION, votes=Boolean(), copy=TREE_COPY
            ),
            "rotate": record(kind=LABEL, member=MEMBER_FILE),
            "quorum": record(kind=LABEL),
            "rules": record(kind=LABEL, rules_version=Integer(1, 1 << 20)),
        }
    ),
)

PARAMETER = Parameter()
SCHEMA_PARAMETER = record(
    "default low high choices array min_length max_length help",
    name=LABEL,
    type=Choice(("int", "float", "bool", "str")),
    default=PARAMETER,
    low=PARAMETER,
    high=PARAMETER,
    choices=ListOf(PARAMETER, 1, limits.CHOICES_PER_PARAMETER, distinct=False),
    array=Boolean(),
    min_length=Integer(0, limits.PARAMETER_TEXT_CHARACTERS),
    max_length=Integer(0, limits.PARAMETER_TEXT_CHARACTERS),
    help=Text(0, 400),
)
MANIFEST = record(
    "outputs name version entry",
    format=LABEL,
    capabilities=ListOf(Choice(CAPABILITIES), 1, len(CAPABILITIES)),
    parameters=ListOf(SCHEMA_PARAMETER, 0, limits.PARAMETERS_PER_ALGO),
    outputs=ListOf(LABEL, 1, limits.OUTPUTS_PER_TASK),
    name=NAME,
    version=Text(1, 40),
    entry=PATH,
)
SELECTION = Tagged(
    "kind",
    {
        "fraction": record(
            "seed complement",
            kind=Choice(("fraction",)),
            fraction=DECIMAL,
            seed=Integer(0),
            complement=Boolean(),
        ),
        "fold": record(
            "seed complement",
            kind=Choice(("fold",)),
            index=Integer(0, 999),
            of=Integer(2, 1_000),
            by=Choice(("index", "stratified", "group")),
            seed=Integer(0),
            complement=Boolean(),
        ),
        "first": record(
            "complement", kind=Choice(("first",)), count=Integer(1), complement=Boolean()
        ),
    },
)
INPUT_OF_TASK = record(
    "on_failed", name=LABEL, task=KEY, output=LABEL, on_failed=Choice(("cancel", "skip"))
)
INPUT_OF_MODEL = record("on_failed", name=LABEL, model=KEY, on_failed=Choice(("cancel", "skip")))


@dataclass(frozen=True, slots=True)
class Input:
    """An edge: an output of a task, or an imported model."""

    def check(self, value: Any, path: Path) -> None:
        imported = isinstance(value, Mapping) and "model" in value
        (INPUT_OF_MODEL if imported else INPUT_OF_TASK).check(value, path)

    def describe(self) -> str:
        return "{name, task, output} or {name, model}"


OUTPUT_GRANTS = record("use download", use=GRANT, download=GRANT)
TASK = record(
    "algo inputs need data objective parameters seed tag outputs limits local metadata",
    key=KEY,
    kind=Choice(KINDS),
    worker=ORGANIZATION,
    algo=Either(KEY, record(builtin=Choice(BUILTIN_AGGREGATIONS))),
    inputs=ListOf(Input(), 0, limits.INPUTS_PER_TASK),
    need=record("within_ms", at_least=Integer(1, limits.INPUTS_PER_TASK), within_ms=Integer(1)),
    data=record("selection", dataset=KEY, set=KEY, selection=SELECTION),
    objective=KEY,
    parameters=MapOf(LABEL, PARAMETER, limits.PARAMETERS_PER_ALGO),
    seed=Integer(0),
    tag=TAG,
    outputs=MapOf(LABEL, OUTPUT_GRANTS, limits.OUTPUTS_PER_TASK),
    limits=record(
        "seconds memory_bytes processes",
        seconds=Integer(1, 30 * 86_400),
        memory_bytes=Integer(1 << 20, 1 << 44),
        processes=Integer(1, 10_000),
    ),
    local=Pattern(re.compile(rf"none|{SLUG}/[0-9a-f]{{32}}"), "none, or the key of a task"),
    metadata=METADATA,
)
CONFUSION_LABEL = Pattern(re.compile(r"(?s).{1,100}"), "a label of 1 to 100 characters")


@dataclass(frozen=True, slots=True)
class ConfusionLabel:
    def check(self, value: Any, path: Path) -> None:
        if type(value) is int:
            Integer(-(2**53 - 1)).check(value, path)
        else:
            CONFUSION_LABEL.check(value, path)

    def describe(self) -> str:
        return "an integer or text"


STATISTICS = record(
    labels=ListOf(ConfusionLabel(), 1, limits.CONFUSION_LABELS),
    matrix=ListOf(
        ListOf(Integer(0), 1, limits.CONFUSION_LABELS, distinct=False),
        1,
        limits.CONFUSION_LABELS,
        distinct=False,
    ),
)
SCORE = record(
    "interval named statistics",
    value=DECIMAL,
    count=Integer(1),
    interval=ListOf(DECIMAL, 2, 2, distinct=False),
    named=MapOf(LABEL, DECIMAL, limits.NAMED_SCORES),
    statistics=STATISTICS,
)
RECEIPT = record(
    "codes environments set local_in local_out predictions log report images mode data_check usage"
    " started_ms ended_ms exit",
    grade=Choice(GRADES),
    labels=Choice(("sealed", "open", "none")),
    runtime=LABEL,
    inputs=MapOf(LABEL, DIGEST, limits.INPUTS_PER_TASK),
    codes=MapOf(LABEL, DIGEST, 8),  # by folder: code, opener, metric
    environments=MapOf(LABEL, DIGEST, 8),  # by step: features, predict, score, or the task's one
    set=DIGEST,
    local_in=DIGEST,
    local_out=DIGEST,
    predictions=DIGEST,
    log=DIGEST,
    report=DIGEST,
    images=MapOf(LABEL, Text(1, 255), 8),  # ids, by step
    mode=Choice(("warm", "strict")),
    data_check=Choice(("content", "metadata", "none")),
    usage=record(
        "wall_ms cpu_ms peak_memory_bytes input_bytes output_bytes",
        wall_ms=Integer(0),
        cpu_ms=Integer(0),
        peak_memory_bytes=Integer(0),
        input_bytes=Integer(0),
        output_bytes=Integer(0),
    ),
    started_ms=TIME_MS,
    ended_ms=TIME_MS,
    exit=Integer(-255, 255),
)
ATTEMPT = Integer(1, 1_000)
