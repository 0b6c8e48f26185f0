"""Changes of who votes over the real rules: proposed and approved by members' signed entries, at
random moments among the other ones, several at once, while faults reign and after.

    admit, vote, stop, remove, rotate, numbers      # kinds of aims

Invariants:
- Those who ask know what is final, as everybody may, and what they want; each entry goes to some
  node and is handed in again, elsewhere, until it is recorded. A proposal that another change made
  void is made anew, unless its aim makes no sense any more.
- One member can always be spared that forgets or lies: q is such that n - q and 2q - n - 1 are 1 at
  least. Sites stay listed, and one who is spared may be any.

Left to others: what the ledger then has to say (ruled_roll), what it must refuse
(ruled_forgeries).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from churn import Churn
from number_ledger import spare_quorum
from ruled_forgeries import FORGERIES, OLD_KEYS, Forgery
from ruled_ledger import RuledArchive
from ruled_script import SITES, STRANGER, file_of, generation_of, keys_of

from tilth_ledger import recent_heads
from tilth_ledger.epochs import newest, state_copy
from tilth_ledger.keys import SigningKey
from tilth_ledger.leaf import leaf_id, write_entry
from tilth_ledger.rows import Row, Rows

if TYPE_CHECKING:
    from ruled_world import RuledWorld

LOOK_MS = 50
PATIENCE_MS = 2_000
MOST_TRIES = 4  # of one proposal that is not recorded
LEAST_MEMBERS, MOST_MEMBERS = 4, 6
KINDS = ("admit", "vote", "stop", "remove", "rotate", "numbers")
WEIGHTS = (3, 4, 1, 2, 2, 1)

Change = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Aim:
    """What somebody wants of who votes."""

    kind: str  # of KINDS
    organization: str = ""


class Roster:
    """Who votes and who follows, as the final rows say."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.epoch, self.row = newest(rows)
        self.members = [member["organization"] for member in self.row["members"]]
        self.listed = [
            party["organization"]
            for _, party in rows.scan("organization/")
            if not party.get("removed")
        ]

    def generation(self, name: str) -> int:
        """Of an organization's keys, present or gone; -1 if it never had any here."""
        row = self.rows.get(f"organization/{name}")
        return -1 if row is None else generation_of(name, row["keys"]["vote"])

    def admin(self, name: str) -> SigningKey:
        return keys_of(name, self.generation(name))["admin"]

    def aims(self) -> list[Aim]:
        """All that would make sense now."""
        members, n = self.members, len(self.members)
        aims = [Aim("rotate", name) for name in self.listed] + [Aim("numbers")]
        if STRANGER not in self.listed:
            aims.append(Aim("admit", STRANGER))
        if n < MOST_MEMBERS:
            aims += [Aim("vote", name) for name in self.listed if name not in members]
        if n > LEAST_MEMBERS:
            aims += [Aim("stop", name) for name in members]
        leaving = [name for name in self.listed if name not in SITES]
        aims += [Aim("remove", e) for e in leaving if e not in members or n > LEAST_MEMBERS]
        return aims


class Motion:
    """One aim, until the ledger has it, or it makes no sense any more."""

    def __init__(self, council: Council, aim: Aim) -> None:
        self._council, self.aim = council, aim
        self.key = ""  # of the proposal
        self._epoch = -1  # in which it was made
        self._entry = b""
        self._asked_ms, self._tries = -PATIENCE_MS, 0

    def goes_on(self, roster: Roster, now_ms: int) -> bool:
        """The next act, if it is time; whether anything is left to do."""
        row = roster.rows.get(f"proposal/{self.key}") if self.key else None
        if row is not None and row["status"] == "effective":
            self._council.met[f"epoch: {self.aim.kind}"] += 1
            return False
        if row is not None and row["epoch"] == roster.epoch:
            self._approve(roster, row, now_ms)
            return True
        given_up = self._tries >= MOST_TRIES or self._epoch != roster.epoch
        if given_up and not self._propose(roster):
            return False
        if self._entry and now_ms - self._asked_ms >= PATIENCE_MS:
            self._hand_in(self._entry, now_ms)
            self._tries += 1
        return True

    def _propose(self, roster: Roster) -> bool:
        """A proposal by some member; whether the aim still makes sense."""
        if self.aim not in roster.aims():
            self._council.met["epoch: given up"] += 1
            return False
        change = self._council.change(self.aim, roster)
        if change is None:
            return True  # not yet
        dice = self._council.dice
        q, k = self._council.numbers(self.aim, roster)
        author = dice.choice(roster.members)
        self.key = f"{author}/{dice.randbytes(16).hex()}"
        self._epoch, self._tries, self._asked_ms = roster.epoch, 0, -PATIENCE_MS
        operation = {"op": "member.propose", "key": self.key, "change": change, "q": q, "k": k}
        self._entry = self._council.entry(author, roster.admin(author), operation)
        return True

    def _approve(self, roster: Roster, row: Row, now_ms: int) -> None:
        """One more approval, of a member whose own is not recorded."""
        if now_ms - self._asked_ms < self._council.pause_ms:
            return
        given = {each["organization"] for each in row["approvals"]}
        self._council.try_old_keys(roster)
        open_to = [name for name in roster.members if name not in given]
        if open_to:
            name = self._council.dice.choice(open_to)
            operation = {"op": "member.approve", "proposal": self.key}
            self._hand_in(self._council.entry(name, roster.admin(name), operation), now_ms)

    def _hand_in(self, entry: bytes, now_ms: int) -> None:
        self._asked_ms = now_ms
        self._council.hand_in(entry)


class Council(Churn):
    """All changes of one world: so many, each from a moment of the script on."""

    def __init__(self, world: RuledWorld, changes: int) -> None:
        super().__init__(world)
        self._ruled = world
        self.dice = Random(f"council {world.seed}")
        self._forger = Random(f"forger {world.seed}")
        self.met = world.met
        self.pause_ms = self.dice.choice((100, 400, PATIENCE_MS))
        last = len(world.entries) - 1
        self._moments = sorted(self.dice.randint(0, last) for _ in range(changes))
        self._under_way: list[Motion] = []
        self._forged = sorted(self.dice.randint(0, last) for _ in range(2 * changes))

    def schedule(self) -> None:
        self._world.at(LOOK_MS, self._look)

    @property
    def is_under_way(self) -> bool:
        return bool(self._under_way)

    @property
    def is_done(self) -> bool:
        return not (self._moments or self._under_way or self._forged)

    def _rotate(self, number: int) -> None:
        """A member forgot a vote: its operator has its keys replaced."""
        if self._world.now and f"m{number}" in self.roster().members:
            self.met["membership: forgetful member's key rotated"] += 1
            if self.is_done:
                self._world.at(LOOK_MS, self._look)
            self._begin(Aim("rotate", f"m{number}"))

    def _begin(self, aim: Aim) -> None:
        if all(aim != each.aim for each in self._under_way):
            self._under_way.append(Motion(self, aim))

    def _look(self) -> None:
        roster = self.roster()
        while self._moments and self._ruled.progress >= self._moments[0]:
            self._moments.pop(0)
            self._begin(self._some_aim(roster))
        while self._forged and self._ruled.progress >= self._forged[0]:
            self._forged.pop(0)
            self._forge(roster, self.dice.choice(FORGERIES))
        self._under_way = [m for m in self._under_way if m.goes_on(roster, self._world.now)]
        if not self.is_done:
            self._world.at(LOOK_MS, self._look)

    def _some_aim(self, roster: Roster) -> Aim:
        aims = roster.aims()
        weighted = [w * any(a.kind == k for a in aims) for k, w in zip(KINDS, WEIGHTS, strict=True)]
        [kind] = self.dice.choices(KINDS, weighted)
        return self.dice.choice([aim for aim in aims if aim.kind == kind])

    def try_old_keys(self, roster: Roster) -> None:
        """While a proposal is open, somebody signs with a key of before."""
        self._forge(roster, self._forger.choice(OLD_KEYS))

    def _forge(self, roster: Roster, forgery: Forgery) -> None:
        entry = forgery(self, roster)
        if entry is not None:
            name = forgery.__name__.replace("_", " ")
            self.met[f"forged: {name}"] += 1
            self._ruled.forbid(self.hand_in(entry), name)

    def roster(self) -> Roster:
        return Roster(self._ruled.final_rows)

    # What is signed.

    def change(self, aim: Aim, roster: Roster) -> Change | None:
        """The change that makes the aim true; None as long as it cannot be asked for."""
        name = aim.organization
        renewed = roster.generation(name) + 1 if name else 0
        match aim.kind:
            case "admit":
                return {"kind": "admit", "member": file_of(name, renewed), "votes": False}
            case "vote":
                copy = self.copy_of(name, keys_of(name, renewed - 1)["vote"])
                votes = {"kind": "votes", "organization": name, "votes": True}
                return None if copy is None else {**votes, "copy": copy}
            case "stop":
                return {"kind": "votes", "organization": name, "votes": False}
            case "remove":
                return {"kind": "remove", "organization": name}
            case "rotate":
                return {"kind": "rotate", "member": file_of(name, renewed)}
            case _:
                return {"kind": "quorum"}

    def numbers(self, aim: Aim, roster: Roster) -> tuple[int, int]:
        """q and k after the change."""
        n = len(roster.members) + (aim.kind == "vote")
        n -= aim.kind in ("stop", "remove") and aim.organization in roster.members
        q = self.dice.randint(spare_quorum(n), n - 1)
        k = self.dice.randint(q, n)
        if aim.kind == "numbers" and (q, k) == (roster.row["q"], roster.row["k"]):
            k = n if k < n else q
        return q, k

    def copy_of(self, name: str, key: SigningKey) -> Change | None:
        """What the holder of a key says that an organization's node holds; None while it holds
        nothing."""
        archive = self._world.nodes[int(name[1:])].archive
        assert isinstance(archive, RuledArchive)
        heads = (row for _, row in archive.rows.scan("head/"))
        head = recent_heads.newest(heads, archive.state.size)
        if head is None:
            return None
        return state_copy(self.net, head["size"], bytes.fromhex(head["root"]), key)

    @property
    def net(self) -> bytes:
        return self._world.consortium.genesis.net_bytes

    def entry(self, author: str, key: SigningKey, *operations: Change) -> bytes:
        nonce = self.dice.randbytes(16).hex()
        return write_entry(self.net.hex(), author, key, nonce, list(operations), None).encode()

    def hand_in(self, entry: bytes) -> str:
        """To any node; the entry's name."""
        self._ruled.hand_in(entry, self.dice)
        return leaf_id(entry)
