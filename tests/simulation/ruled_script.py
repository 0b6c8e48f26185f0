"""What the clients of a simulated consortium hand in, in order: four members and one that follows;
two sites train and test models, whose rows are certified, recorded, withdrawn and superseded.

Keys have generations: those of the second one are what a member has after its first rotation.

Left to others: when each entry comes, and to whom (ruled_world); changes of who votes
(ruled_changes), who stand between these entries and change none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from rules_world import PEM, Digits, named_key
from rules_world import World as RulesWorld

from tilth_ledger import limits
from tilth_ledger.epochs import LISTED_KEYS
from tilth_ledger.genesis import KEY_NAMES, Genesis, member_file, parse_member_file
from tilth_ledger.keys import SigningKey
from tilth_ledger.leaf import ENTRY, leaf_type

MEMBERS = ("m0", "m1", "m2", "m3")
NEWCOMER = "m4"  # follows from the first day
STRANGER = "m5"  # genesis does not know it
SITES = MEMBERS[:2]  # have data, work on tasks, and stay
MOST_GENERATIONS = 40
SCORES = ("0.9", "0.8")


@lru_cache(maxsize=1_024)
def keys_of(name: str, generation: int = 0) -> Mapping[str, SigningKey]:
    """An organization's keys. A site's entries are signed before the world begins, so its rotations
    leave what signs entries as it is."""
    renewed = LISTED_KEYS if name in SITES else KEY_NAMES
    suffix = f" {generation}" if generation else ""
    return {p: named_key(f"{name} {p}" + (suffix if p in renewed else "")) for p in KEY_NAMES}


def file_of(name: str, generation: int = 0) -> str:
    """Its member file."""
    keys = dict(keys_of(name, generation))
    return str(member_file(name, name, keys, PEM, aggregates=name == "m1").decode())


def generation_of(name: str, vote_key: str) -> int:
    """Of which generation a public vote key (hex) is."""
    held = (keys_of(name, number)["vote"].public.hex for number in range(MOST_GENERATIONS))
    return next(number for number, public in enumerate(held) if public == vote_key)


class KeysOf:
    """A node's keyring: all keys that its organization ever has for one purpose."""

    def __init__(self, name: str, purpose: str = "vote") -> None:
        self._name, self._purpose = name, purpose

    def __call__(self, public: Any) -> SigningKey | None:
        held = (keys_of(self._name, number)[self._purpose] for number in range(MOST_GENERATIONS))
        return next((key for key in held if key.public == public), None)


@dataclass(frozen=True, slots=True)
class Facts:
    """What the script's entries are about."""

    objective: str
    algos: tuple[str, str]  # of the two models; the second one is withdrawn


class Script(RulesWorld):
    """A whole history, executed once so that each of its entries is known to be right."""

    def __init__(self) -> None:
        parties = [parse_member_file(file_of(name).encode()) for name in (*MEMBERS, NEWCOMER)]
        self.genesis = Genesis.write(
            "simulated", parties[:-1], parties[-1:], limits={}, q=3, k=3, delta_ms=300
        )
        self.organizations = (*MEMBERS, NEWCOMER)
        self.time_ms, self.count, self.leaves = 1_700_000_000_000, 0, []
        self.proposer, self.voter = self._replica(), self._replica()
        for name in SITES:
            self.add_identity(name, f"{name} person", ("owner", "organizer", "scientist"))
        digits = Digits(self, SITES, "m0")
        digits.grant_all()
        first = digits.algo
        self._certify(digits, SCORES[0])
        digits.algo = self.algo("m0")
        self._certify(digits, SCORES[1])
        self.facts = Facts(digits.objective, (first, digits.algo))
        self.submit("m0", {"op": "algo.withdraw", "key": digits.algo})
        self._record(digits.objective)
        self._revise(digits)
        self._record(digits.objective)

    def _certify(self, digits: Any, value: str) -> None:
        """Train, mix and test a model; its row, and the board that it stands on."""
        tasks, last, tests = digits.fedavg("m1", rounds=1)
        self.plan("m0", tasks, final=[last["key"]])
        for task in tasks:
            self.doing(task)
            self.done(task, **({"score": {"value": value, "count": 10}} if task in tests else {}))
        self._record(digits.objective)

    def _record(self, objective: str) -> None:
        self.time_ms += limits.BOARD_PAUSE_MS
        self.submit("m1", {"op": "leaderboard.record", "objective": objective})

    def _revise(self, digits: Any) -> None:
        """Another revision, of the second site's test set alone: the rows stay with the first."""
        kept = {"dataset": digits.datasets["m1"], "set": digits.test_sets["m1"]}
        self.submit("m0", {"op": "objective.revise", "key": digits.objective, "sets": [kept]})
        self.accept(digits.objective, kept["set"], revision=2)

    @property
    def entries(self) -> list[bytes]:
        """The entries alone: what follows from them every voter derives."""
        return [leaf for leaf in self.leaves if leaf_type(leaf) == ENTRY]


@lru_cache(maxsize=1)
def script() -> Script:
    return Script()
