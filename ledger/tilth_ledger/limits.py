"""Every bound of the state machine in one place, with its unit in its name.

Invariants:
- All bounds are integers and are the same at every voter: they come from here and, where the
  genesis file states another value, from there (`Limits.of_genesis`).
- A bound is enforced where a value enters the ledger (`operations`, `execution`), never later.

What it leaves to others: how large a task's memory or log may be is the node's decision
(`tilth_node`); only what may stand on the ledger is bounded here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from tilth_ledger.errors import InvalidInput

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one consortium; `Limits()` are the defaults."""

    leaf_bytes: int = 65_535
    block_bytes: int = 4_194_304
    block_leaves: int = 4_096
    block_row_writes: int = 8_192  # some 30 us each: far below a timer
    entry_operations: int = 256
    plan_tasks: int = 10_000
    plan_lifetime_ms: int = 90 * DAY_MS
    unsealed_lifetime_ms: int = DAY_MS
    set_samples: int = 1_000_000
    task_attempts: int = 10

    @classmethod
    def of_genesis(cls, stated: Mapping[str, Any]) -> Limits:
        """The defaults with what a genesis file states on top; an unknown name is refused."""
        known = {field.name for field in fields(cls)}
        for name, value in stated.items():
            if name not in known:
                raise InvalidInput(
                    "The genesis file states a limit that does not exist.",
                    found=name,
                    expected=", ".join(sorted(known)),
                    remedy="Remove the limit from the genesis file or correct its name.",
                )
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InvalidInput(
                    f"The limit {name} of the genesis file is not a positive integer.",
                    found=repr(value),
                    expected="an integer of at least 1",
                    remedy="Correct the limit in the genesis file.",
                )
        return replace(cls(), **stated)


# Bounds of single fields. They are part of the rules' version, not of a consortium's choice.
NAME_CHARACTERS = 100
DESCRIPTION_CHARACTERS = 4_096
TAG_CHARACTERS = 64
METADATA_PAIRS = 100
METADATA_KEY_CHARACTERS = 50
METADATA_BYTES = 4_096
SPECS_BYTES = 8_192
ADDRESS_CHARACTERS = 255
GRANT_ORGANIZATIONS = 100
ROLES_PER_IDENTITY = 6
TARGET_GLOBS = 32
REQUIREMENTS = 500
DATASETS_PER_SAMPLE = 16
SAMPLES_PER_OPERATION = 512
SETS_PER_TEST_SAMPLE = 64  # each is compared with each: it bounds what one entry may cost
TASKS_PER_OPERATION = 512
INPUTS_PER_TASK = 256
OUTPUTS_PER_TASK = 16
PARAMETERS_PER_ALGO = 100
PARAMETER_TEXT_CHARACTERS = 4_096
PARAMETER_ARRAY_ITEMS = 1_024
CHOICES_PER_PARAMETER = 100
OBJECTIVE_SETS = 64
FINALS_PER_OPERATION = 512
OBJECTIVES_PER_PLAN = 32
NAMED_SCORES = 16
CONFUSION_LABELS = 128
DECIMAL_DIGITS = 18
BOARD_RESULTS = 2_048  # certified results that a recorded leaderboard may look at
BOARD_CELLS = 262_144  # of their confusion matrices, where they are pooled
BOARD_PAUSE_MS = 1_000  # between two recorded leaderboards: it bounds what they cost a voter
MEMBERS_AFTER_A_CHANGE = 150  # so that the leaf that ends an epoch holds the keys of all
MEMBER_FILE_CHARACTERS = 16_384
PROPOSAL_LIFETIME_MS = 30 * DAY_MS
RECENT_COPY_LEAVES = 10_000  # how old the tree may be that a new voter says it holds
MODEL_BYTES = 1 << 40
IMAGE_BYTES = 1 << 35
