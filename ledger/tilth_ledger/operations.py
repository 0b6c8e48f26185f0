"""Every operation an entry may hold: one table of fields, types, bounds and the role it needs.

Invariants:
- Closed: an operation or field that is not in the table is `InvalidInput`, and so is a value of
  the wrong type or out of its range. The words say where, what was found, what was expected.
- The table says nothing about the state of the ledger: whether an asset exists or a right is held
  is decided by the rules (`state` and the `rules_*` modules).

Left to others: who the author is and whether it holds the role (`execution`), what an operation
does (`state`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from tilth_ledger import limits
from tilth_ledger.canonical import dumps, sha256_hex
from tilth_ledger.errors import InvalidInput
from tilth_ledger.schema import (
    DESCRIPTION,
    DIGEST,
    KEY,
    LABEL,
    METADATA,
    NAME,
    ORGANIZATION,
    TAG,
    TIME_MS,
    Boolean,
    Choice,
    Integer,
    Json,
    ListOf,
    MapOf,
    Record,
    Text,
    Type,
)
from tilth_ledger.shapes import (
    ATTEMPT,
    COMBINE_RULES,
    DATASET_GRANTS,
    DATASET_LIMITS,
    ENVIRONMENT_SPEC,
    FAILURE_REASONS,
    GLOB,
    GRADES,
    GRANT,
    LABELS,
    MANIFEST,
    MANY_DATASETS,
    MEMBER_CHANGE,
    MIXED_GRANT,
    MODEL_FILE,
    OBJECTIVE_SET,
    RECEIPT,
    RIGHTS,
    ROLES,
    SCORE,
    TASK,
    Metric,
    record,
)


def builtin_digest(name: str) -> str:
    """The well-known digest of what ships with Tilth: a metric or an aggregation."""
    return sha256_hex(dumps({"builtin": name}))


def metric_digest(metric: Mapping[str, Any]) -> str:
    """What an owner accepts and an approval names: the built-in's digest or the archive's."""
    return builtin_digest(metric["builtin"]) if "builtin" in metric else str(metric["archive"])


@dataclass(frozen=True, slots=True)
class Operation:
    """One line of the table."""

    fields: Record
    roles: frozenset[str]  # the author needs one of them
    summary: str


def _line(roles: str, summary: str, optional: str = "", /, **fields: Type) -> Operation:
    return Operation(
        Record(
            MappingProxyType({"op": Text(1, 40), **fields}),
            frozenset(optional.split()),
        ),
        frozenset(roles.split()),
        summary,
    )


OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {
        "identity.add": _line(
            "admin",
            "Let a key act for its organization in the given roles.",
            "expires_ms card",
            public=DIGEST,  # the raw public key: 32 bytes
            roles=ListOf(Choice(ROLES), 1, limits.ROLES_PER_IDENTITY),
            expires_ms=TIME_MS,
            card=DIGEST,  # of the card kept off the ledger (D3)
        ),
        "identity.revoke": _line("admin", "End a key's rights.", identity=DIGEST),
        "organization.update": _line(
            "admin",
            "Change what the organization says of itself.",
            "aggregates peer_address client_address name",
            aggregates=Boolean(),
            peer_address=Text(0, limits.ADDRESS_CHARACTERS),
            client_address=Text(0, limits.ADDRESS_CHARACTERS),
            name=NAME,
        ),
        "member.propose": _line(
            "admin",
            "Propose who votes from the next epoch on, with which keys, and how many must.",
            key=KEY,
            change=MEMBER_CHANGE,
            q=Integer(1, 255),  # after the change
            k=Integer(1, 255),
        ),
        "member.approve": _line(
            "admin",
            "Approve a proposed change; the q-th approval makes it take effect.",
            proposal=KEY,
        ),
        "environment.add": _line(
            "scientist owner organizer",
            "Register what code needs to run, named by the digest of its specification.",
            key=KEY,
            name=NAME,
            digest=DIGEST,
            spec=ENVIRONMENT_SPEC,
        ),
        "image.add": _line(
            "scientist owner organizer",
            "State the image that the organization built of an environment, and offer its file.",
            "grants",
            key=KEY,
            environment=KEY,
            image=DIGEST,  # the image's id: the digest of its configuration
            file=record(digest=DIGEST, size=Integer(1, limits.IMAGE_BYTES)),
            grants=record(use=GRANT),
        ),
        "image.withdraw": _line(
            "scientist owner organizer", "Withdraw the statement of an image (A4).", key=KEY
        ),
        "dataset.add": _line(
            "owner",
            "Register a dataset: an opener and its policy.",
            "description targets grants limits approval specs metadata export",
            key=KEY,
            name=NAME,
            description=DESCRIPTION,
            opener=DIGEST,
            environment=KEY,
            targets=ListOf(GLOB, 0, limits.TARGET_GLOBS),
            grants=DATASET_GRANTS,
            limits=DATASET_LIMITS,
            approval=Choice(("none", "required")),
            specs=Json(limits.SPECS_BYTES),
            metadata=METADATA,
            export=Boolean(),  # predictions may leave
        ),
        "dataset.grant": _line(
            "owner",
            "Replace one right's grant on a dataset; it binds every later use (P4).",
            "min_parties",
            key=KEY,
            right=Choice(RIGHTS),
            grant=MIXED_GRANT,
            min_parties=Integer(1, 1_000),
        ),
        "dataset.withdraw": _line("owner", "Withdraw a dataset (A4).", key=KEY),
        "sample.add": _line(
            "owner",
            "Register samples of the organization's datasets under one label.",
            datasets=MANY_DATASETS,
            label=Choice(LABELS),
            samples=ListOf(
                record(key=KEY, commitment=DIGEST, tag=DIGEST),
                1,
                limits.SAMPLES_PER_OPERATION,
            ),
        ),
        "sample.withdraw": _line("owner", "Withdraw a sample; its sets retire.", key=KEY),
        "sampleset.add": _line(
            "owner",
            "Register a part of a sample set; the last part seals it.",
            "digest count",
            key=KEY,
            dataset=KEY,
            label=Choice(LABELS),
            part=Integer(0, 100_000),
            parts=Integer(1, 100_000),
            samples=ListOf(KEY, 1, 4 * limits.SAMPLES_PER_OPERATION),
            digest=DIGEST,
            count=Integer(1),
        ),
        "objective.add": _line(
            "organizer",
            "Register an objective: a metric, and the test sets it is measured on.",
            "primary sets minimum_grade strict description metadata grants",
            key=KEY,
            name=NAME,
            metric=Metric(),
            primary=LABEL,
            direction=Choice(("maximize", "minimize")),
            combine=Choice(COMBINE_RULES),
            sets=ListOf(OBJECTIVE_SET, 0, limits.OBJECTIVE_SETS),
            minimum_grade=Choice(GRADES),
            strict=Boolean(),
            grants=record("use", use=GRANT),
            description=DESCRIPTION,
            metadata=METADATA,
        ),
        "objective.revise": _line(
            "organizer",
            "Give an objective other test sets: a new revision with a board of its own.",
            key=KEY,
            sets=ListOf(OBJECTIVE_SET, 1, limits.OBJECTIVE_SETS),
        ),
        "objective.accept": _line(
            "owner",
            "Accept a test set of one's dataset into an objective's revision.",
            key=KEY,
            revision=Integer(1),
            set=KEY,
            metric_digest=DIGEST,
        ),
        "objective.withdraw": _line("organizer", "Withdraw an objective (A4).", key=KEY),
        "leaderboard.record": _line(
            "admin organizer owner scientist",
            "Have the standing rows of a leaderboard recorded by all voters (B6).",
            "revision",
            objective=KEY,
            revision=Integer(1, 999_999),  # default: the current
        ),
        "algo.add": _line(
            "scientist",
            "Register an algo: archive, manifest, environment, grants.",
            "grants metadata description",
            key=KEY,
            name=NAME,
            description=DESCRIPTION,
            archive=DIGEST,
            manifest=MANIFEST,
            environment=KEY,
            grants=record("use read", use=GRANT, read=GRANT),
            metadata=METADATA,
        ),
        "algo.accept": _line(
            "owner",
            "Accept an aggregation algo, by its archive's digest, for a dataset (P3).",
            dataset=KEY,
            algo=DIGEST,
        ),
        "algo.withdraw": _line("scientist", "Withdraw an algo (A4).", key=KEY),
        "model.import": _line(
            "scientist",
            "Register a model that was made elsewhere.",
            "grants metadata",
            key=KEY,
            digest=DIGEST,
            size=Integer(0, limits.MODEL_BYTES),
            format=LABEL,
            origin=Text(1, 400),
            grants=record("use download", use=GRANT, download=GRANT),
            metadata=METADATA,
        ),
        "model.widen": _line(
            "owner",
            "Consent, as a data owner behind a model, that organizations use or download it.",
            task=KEY,
            output=LABEL,
            right=Choice(("use", "download")),
            organizations=ListOf(ORGANIZATION, 1, limits.GRANT_ORGANIZATIONS),
        ),
        "model.narrow": _line(
            "scientist owner",
            "Narrow who may use or download a model.",
            task=KEY,
            output=LABEL,
            right=Choice(("use", "download")),
            grant=GRANT,
        ),
        "plan.add": _line(
            "scientist",
            "Announce a compute plan; its tasks follow in parts.",
            "tag metadata on_failure final objectives open expires_ms",
            key=KEY,
            name=NAME,
            tag=TAG,
            metadata=METADATA,
            on_failure=Choice(("stop", "continue")),
            final=ListOf(KEY, 0, limits.FINALS_PER_OPERATION),
            objectives=ListOf(KEY, 0, limits.OBJECTIVES_PER_PLAN),
            parts=Integer(0, 100_000),
            open=Boolean(),
            expires_ms=TIME_MS,
        ),
        "plan.tasks": _line(
            "scientist",
            "Register a part of a plan's tasks; the last announced part seals the plan.",
            "final",
            plan=KEY,
            part=Integer(0, 1_000_000),
            tasks=ListOf(TASK, 1, limits.TASKS_PER_OPERATION),
            final=ListOf(KEY, 1, limits.FINALS_PER_OPERATION),
        ),
        "plan.close": _line("scientist", "End the extension of an open plan.", plan=KEY),
        "plan.cancel": _line("scientist", "Cancel whatever of a plan is still open.", plan=KEY),
        "task.close": _line(
            "scientist node",
            "Let an aggregate begin with the inputs that are there (at least `need`).",
            task=KEY,
        ),
        "task.cancel": _line(
            "scientist admin", "Cancel one task: its plan's owner, or its worker.", task=KEY
        ),
        "task.retry": _line("scientist", "Reopen a failed or canceled task.", task=KEY),
        "approval.give": _line(
            "owner",
            "Approve tasks on a dataset that match all that is stated.",
            "plan objective algo environment metric opener author minimum_grade runs expires_ms",
            key=KEY,
            dataset=KEY,
            plan=KEY,
            objective=KEY,
            algo=DIGEST,
            environment=DIGEST,
            metric=DIGEST,
            opener=DIGEST,
            author=ORGANIZATION,
            minimum_grade=Choice(GRADES),
            runs=Integer(1, 1_000_000),
            expires_ms=TIME_MS,
        ),
        "approval.deny": _line(
            "owner",
            "Deny tasks of a plan or an algo on a dataset: what waits fails, the rest is refused.",
            "plan algo",
            key=KEY,
            dataset=KEY,
            plan=KEY,
            algo=DIGEST,
        ),
        "task.doing": _line(
            "node", "Begin a task: rights are judged here.", task=KEY, attempt=ATTEMPT
        ),
        "task.done": _line(
            "node",
            "Report a finished task.",
            "score report details",
            task=KEY,
            attempt=ATTEMPT,
            outputs=MapOf(LABEL, MODEL_FILE, limits.OUTPUTS_PER_TASK),
            score=SCORE,
            report=record("count", digest=DIGEST, size=Integer(0, 1 << 30), count=Integer(0)),
            details=record(digest=DIGEST, size=Integer(0, 1 << 40)),  # per-sample values
            receipt=RECEIPT,
        ),
        "task.failed": _line(
            "node",
            "Report a task that failed.",
            "log",
            task=KEY,
            attempt=ATTEMPT,
            reason=Choice(FAILURE_REASONS),
            log=record(digest=DIGEST, size=Integer(0, 1 << 30)),
        ),
    }
)


def check(operation: Mapping[str, Any]) -> Operation:
    """The table's line of an operation whose shape is right; `InvalidInput` says what is not."""
    name = operation.get("op")
    line = OPERATIONS.get(name) if isinstance(name, str) else None
    if line is None:
        raise InvalidInput(
            "The operation does not exist",
            found=repr(name),
            expected="one of " + ", ".join(OPERATIONS),
            remedy="Correct the operation's name.",
        )
    line.fields.check(operation, str(name))
    return line
