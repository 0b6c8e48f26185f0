"""Rules about data: datasets, samples, sample sets, withdrawal (D1, D3, D4, D5, P1, A4).

Invariants:
- A sample belongs to one organization and only to its datasets; nothing changes its label (D1).
- The same bytes are registered once per organization (D4), so they are never train and test.
- A set is of one dataset and one label, sealed by its last part; withdrawing a sample retires
  the sets that hold it (D5).

Left to others: hashing content and keeping salts (D2, the node).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tilth_ledger.canonical import dumps, sha256_hex
from tilth_ledger.context import Context, Op, refuse
from tilth_ledger.limits import SETS_PER_TEST_SAMPLE
from tilth_ledger.rows import Row

DEFAULT_LIMITS = {"model_bytes": 1 << 30, "log_bytes": 1 << 20, "report_bytes": 1 << 16}
DEFAULT_MIN_PARTIES = 2


def set_digest(keys: Sequence[str]) -> str:
    """The digest of a sample set: of its sorted keys as canonical JSON."""
    return sha256_hex(dumps(sorted(keys)))


def add_dataset(context: Context, op: Op) -> None:
    context.usable("environment", op["environment"])
    grants = dict(op.get("grants", {}))
    min_parties = grants.pop("min_parties", DEFAULT_MIN_PARTIES)
    row = {field: value for field, value in op.items() if field != "op"}
    row |= {
        "owner": context.organization,
        "status": "active",
        "targets": op.get("targets", []),
        "grants": {
            right: context.stated_grant(grant, f"the right {right}")
            for right, grant in grants.items()
        },
        "min_parties": min_parties,
        "limits": DEFAULT_LIMITS | op.get("limits", {}),
        "approval": op.get("approval", "none"),
        "export": op.get("export", False),
    }
    context.add("dataset", op["key"], row)
    context.rows.put(f"blob/{op['opener']}/opener/{op['key']}", {})


def grant(context: Context, op: Op) -> None:
    row = context.own("dataset", op["key"])
    if op["grant"] == "participants" and op["right"] != "mixed":
        refuse(
            "P1",
            f"the right {op['right']} cannot be granted to participants",
            found="participants",
            expected="public, or a list of organizations",
            remedy="Name the organizations; only `mixed` knows participants.",
        )
    grants = row["grants"] | {op["right"]: context.stated_grant(op["grant"], "the grant")}
    changed: Row = {**row, "grants": grants}
    if "min_parties" in op:
        changed["min_parties"] = op["min_parties"]
    context.rows.put(f"dataset/{op['key']}", changed)


def withdraw_dataset(context: Context, op: Op) -> None:
    withdraw(context, "dataset", op["key"])


def withdraw(context: Context, kind: str, key: str) -> None:
    """Leave a tombstone: no new use; what depended on it stays (A4)."""
    row = context.own(kind, key)
    context.usable(kind, key)
    context.rows.put(f"{kind}/{key}", {**row, "status": "withdrawn", "withdrawn": context.index})


def add_samples(context: Context, op: Op) -> None:
    for dataset in op["datasets"]:
        owned = context.usable("dataset", dataset)
        if owned["owner"] != context.organization:
            refuse(
                "D1",
                "a sample belongs only to datasets of its own organization",
                found=f"{dataset} of {owned['owner']}",
                expected=f"datasets of {context.organization}",
                remedy="Register the sample under your own datasets.",
            )
    for sample in op["samples"]:
        _add_sample(context, sample, list(op["datasets"]), op["label"])


def _add_sample(context: Context, sample: Any, datasets: list[str], label: str) -> None:
    if (known := context.rows.get(f"sample/{sample['key']}")) is not None:
        refuse(
            "D1",
            "this sample is registered already, and its label never changes",
            found=f"{sample['key']} labelled {known['label']}",
            expected="a key that was never used",
            remedy="Register other data under a new key.",
        )
    tag = f"tag/{context.organization}/{sample['tag']}"
    if (twin := context.rows.get(tag)) is not None:
        refuse(
            "D4",
            "the same bytes are registered already",
            found=f"the duplicate tag of {twin['sample']}, labelled {twin['label']}",
            expected="content that this organization has not registered",
            remedy=f"Use {twin['sample']}; the same data can never be train and test.",
        )
    row = {
        "owner": context.organization,
        "datasets": datasets,
        "label": label,
        "commitment": sample["commitment"],
        "tag": sample["tag"],
        "status": "active",
    }
    context.check_key("sample", sample["key"])
    context.rows.put(f"sample/{sample['key']}", row)
    context.rows.put(tag, {"sample": sample["key"], "label": label})


def withdraw_sample(context: Context, op: Op) -> None:
    withdraw(context, "sample", op["key"])
    for name, _ in list(context.rows.scan(f"in-set/{op['key']}/")):
        key = name.removeprefix(f"in-set/{op['key']}/")
        holder = context.need("sampleset", key)
        since = holder.get("retired", context.index)
        context.rows.put(f"sampleset/{key}", {**holder, "status": "retired", "retired": since})


def add_set(context: Context, op: Op) -> None:
    dataset = context.usable("dataset", op["dataset"])
    context.check_owner("dataset", str(dataset["owner"]), op["dataset"])
    row = _first_part(context, op) if op["part"] == 0 else _next_part(context, op)
    for sample in op["samples"]:
        _add_to_set(context, op, sample)
    row["received"] += 1
    row["count"] += len(op["samples"])
    if row["received"] == row["parts"]:
        _seal(context, op, row)
    context.rows.put(f"sampleset/{op['key']}", row)


def _first_part(context: Context, op: Op) -> Row:
    row: Row = {
        "owner": context.organization,
        "dataset": op["dataset"],
        "label": op["label"],
        "parts": op["parts"],
        "received": 0,
        "count": 0,
        "status": "unsealed",
        "expires_ms": context.time_ms + context.limits.unsealed_lifetime_ms,
    }
    context.add("sampleset", op["key"], row)
    return row


def _next_part(context: Context, op: Op) -> Row:
    row = context.own("sampleset", op["key"])
    check_part("D5", "sample set", row, op["part"], context.time_ms)
    for field in ("dataset", "label", "parts"):
        if row[field] != op[field]:
            refuse(
                "D5",
                f"a part of a sample set states another {field} than the first",
                found=op[field],
                expected=row[field],
                remedy="State the same dataset, label and number of parts in every part.",
            )
    return row


def check_part(rule: str, noun: str, row: Row, part: int, time_ms: int) -> None:
    """A part comes in order, before its asset is sealed, and before it expires."""
    if row["status"] != "unsealed":
        refuse(
            rule,
            f"the {noun} is sealed",
            found=f"part {part}",
            expected="no further part",
            remedy=f"Register a new {noun}.",
        )
    if time_ms > row["expires_ms"]:
        refuse(
            rule,
            f"the {noun} was never sealed and has expired",
            found=f"ledger time {time_ms} ms",
            expected=f"all parts by {row['expires_ms']} ms",
            remedy=f"Register the {noun} again under a new key.",
        )
    if part != row["received"]:
        refuse(
            rule,
            f"a part of the {noun} is missing or comes twice",
            found=f"part {part}",
            expected=f"part {row['received']}",
            remedy="Send the parts in order, each once.",
        )


def _add_to_set(context: Context, op: Op, sample: str) -> None:
    row = context.need("sample", sample)
    _check_member(op, sample, row)
    if context.rows.get(f"in-set/{sample}/{op['key']}") is not None:
        refuse(
            "D5",
            "a sample is twice in the set",
            found=sample,
            expected="every sample once",
            remedy="Remove the repetition.",
        )
    if op["label"] == "test":
        _record_overlaps(context, op["key"], sample)
    context.rows.put(f"in-set/{sample}/{op['key']}", {})
    context.rows.put(f"set-sample/{op['key']}/{sample}", {})


def _check_member(op: Op, sample: str, row: Row) -> None:
    reasons = {
        f"status {row['status']}": row["status"] != "active",
        f"label {row['label']}": row["label"] != op["label"],
        "a sample of other datasets": op["dataset"] not in row["datasets"],
    }
    for found, holds in reasons.items():
        if holds:
            refuse(
                "D5",
                f"the sample {sample} cannot be in this set",
                found=found,
                expected=f"an active sample of {op['dataset']} labelled {op['label']}",
                remedy="Leave it out of the set.",
            )


def _record_overlaps(context: Context, key: str, sample: str) -> None:
    """Rule T7 needs to know which sets share test samples; learnt here, sample by sample, so that
    no later entry has to compare whole sets."""
    prefix = f"in-set/{sample}/"
    others = [name.removeprefix(prefix) for name, _ in context.rows.scan(prefix)]
    if len(others) >= SETS_PER_TEST_SAMPLE:
        refuse(
            "D5",
            f"the test sample {sample} is in too many sets",
            found=f"{len(others)} sets",
            expected=f"at most {SETS_PER_TEST_SAMPLE}",
            remedy="Use a set that exists; a selection cuts rows without a new set.",
        )
    for other in others:
        context.rows.put(f"overlap/{key}/{other}", {})
        context.rows.put(f"overlap/{other}/{key}", {})


def _seal(context: Context, op: Op, row: Row) -> None:
    prefix = f"set-sample/{op['key']}/"
    keys = [name.removeprefix(prefix) for name, _ in context.rows.scan(prefix)]
    stated = (op.get("count"), op.get("digest"))
    actual = (row["count"], set_digest(keys))
    if stated != actual:
        refuse(
            "D5",
            "the last part does not state what the set holds",
            found=f"count {stated[0]}, digest {stated[1]}",
            expected=f"count {actual[0]}, digest {actual[1]}",
            remedy="State the number of samples and the digest of the sorted keys.",
        )
    if row["count"] > context.limits.set_samples:
        refuse(
            "D5",
            "the set is too large",
            found=row["count"],
            expected=f"at most {context.limits.set_samples} samples",
            remedy="Split it over several sets.",
        )
    row["status"] = "sealed"
    row["digest"] = op["digest"]
