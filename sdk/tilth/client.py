"""The client: one object per node and person, with the nouns of the command line as attributes.

    net = tilth.connect("hospital-a")
    net.algos  net.datasets  net.environments  net.objectives  net.plans  net.tasks
    net.approvals  net.identities  net.members  net.models  net.organizations  net.samples

Invariants:
- Entries are signed here, with the key of the profile; no node ever sees it.
- What `record` returns from is final: every node that has come so far has it in its state.
- When a node does not answer in time, the same signed bytes are sent again (transport.py), so
  nothing is recorded twice.

Left to others: the wire (transport.py), what assets look like (assets.py), how plans are built
(plan.py, strategies.py).
"""

import json
import secrets
import time
from collections.abc import Sequence
from concurrent.futures import Future
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self, Unpack

from tilth import profiles
from tilth.approvals import Approvals
from tilth.assets import Objective
from tilth.checks import PlanCheck, check_plan
from tilth.datasets import Datasets
from tilth.errors import InvalidInput
from tilth.leaderboard import Leaderboard, LeaderboardRow, View, read_curve, read_leaderboard
from tilth.members import Members
from tilth.models import Models
from tilth.objectives import Objectives
from tilth.plan import Plan
from tilth.plans import Plans, Tasks
from tilth.proofs import write_proofs
from tilth.registry import Algos, Environments, Identities, Organizations
from tilth.rows import NodeRows
from tilth.run import Run
from tilth.samples import Samples
from tilth.submitting import Recorder, Submitter
from tilth.transport import Receipt, Transport
from tilth.waiting import Awaited
from tilth_ledger.genesis import Genesis
from tilth_ledger.leaderboard import history as revisions
from tilth_ledger.leaf import Leaf, write_entry
from tilth_ledger.rules_boards import board_key

# An entry that was not recorded by then never will be: rule A5.
LIFE_MS = 10 * 60_000
LEAVES = 200  # asked for at once


def connect(
    profile: str | None = None, read: str = "at-least", *, beside: "Network | None" = None
) -> "Network":
    """The consortium as seen from the node of a profile (see `tilth profile list`).

    `read` says how fresh what it reads is: "local" (what is final at that node), "at-least" (that,
    and all that this client has written), "linearizable" (all that was final anywhere before).

    `beside` is a connection of yours to another node of the consortium: what is written through
    either is read through both, although one node may hear of it a moment after the other.
    """
    return Network(profiles.load(profile), read, beside)


class Network:
    """A consortium, through one node and with one key."""

    def __init__(
        self,
        profile: profiles.Profile,
        read: str = "at-least",
        beside: "Network | None" = None,
    ) -> None:
        self.profile = profile
        self.organization = profile.organization
        self._key = profile.signing_key()
        self.transport = Transport(
            profile.address,
            profile.organization,
            self.genesis.net,
            self._key,
            profile.tls_authority.read_bytes(),
        )
        self._submitter = Submitter(self.transport)
        answer = partial(Awaited, self.transport.patience, LIFE_MS / 1000)
        self._recorder = Recorder(self._submitter, self._sign, answer)
        told = None if beside is None else beside.rows.told
        self.rows: NodeRows = NodeRows(self.transport, read, told)
        self.algos = Algos(self)
        self.approvals = Approvals(self)
        self.datasets = Datasets(self)
        self.environments = Environments(self)
        self.identities = Identities(self)
        self.members = Members(self)
        self.models = Models(self)
        self.objectives = Objectives(self)
        self.organizations = Organizations(self)
        self.plans = Plans(self)
        self.samples = Samples(self)
        self.tasks = Tasks(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<tilth network {self.genesis.name} through {self.organization}>"

    def close(self) -> None:
        self.transport.close()

    @cached_property
    def genesis(self) -> Genesis:
        """The consortium's genesis, from the profile's file: its hash is the consortium's name."""
        try:
            return Genesis.parse(self.profile.genesis.read_bytes())
        except FileNotFoundError:
            raise InvalidInput(
                "the genesis file of this profile is missing",
                found="no file",
                expected=str(self.profile.genesis),
                remedy="Ask the node's operator for genesis.json.",
            ) from None

    def status(self) -> dict[str, Any]:
        """What the node says of itself and of its ledger."""
        return self.transport.status()

    def barrier(self) -> int:
        """Waits for a block made after this call, and returns the ledger's size: from then on reads
        are no older than anything that was final at any node before."""
        size = self.transport.barrier()
        self.rows.holds(size)
        return size

    def new_key(self) -> str:
        """A key for a new asset of this organization."""
        return f"{self.organization}/{secrets.token_hex(16)}"

    def record(self, *operations: dict[str, Any]) -> Receipt:
        """Signs the operations as one entry and waits until it is final; all hold or none.

        Raises Refused with the rule, InvalidInput, Unreachable, or Unknown.
        """
        receipt = self.record_soon(*operations).result()
        self.rows.holds(receipt.size)  # the future wakes this thread before it calls back
        return receipt

    def record_soon(self, *operations: dict[str, Any]) -> "Future[Receipt]":
        """As `record`, without waiting: for registering many things. When much is under way, an
        entry holds the operations of several such calls, in their order; where a rule forbids
        one of them, the others are recorded all the same."""
        self.rows.reach()  # a node judges what is submitted by what it holds
        answer = self._recorder.record(operations)
        answer.add_done_callback(self._note_size)
        return answer

    def _note_size(self, answer: "Future[Receipt]") -> None:
        """What this client wrote it will read."""
        if answer.exception() is None:
            self.rows.holds(answer.result().size)

    def _sign(self, operations: Sequence[dict[str, Any]]) -> bytes:
        leaf = write_entry(
            self.genesis.net,
            self.organization,
            self._key,
            secrets.token_hex(16),
            operations,
            not_after=time.time_ns() // 1_000_000 + LIFE_MS,
        )
        return leaf.encode()

    def check(self, plan: Plan) -> PlanCheck:
        """What would happen: who runs what, the rights of each output, what is missing and the
        command that gives it. Records nothing."""
        return check_plan(self, plan)

    def submit(self, plan: Plan) -> Run:
        """Registers the plan; it runs from the moment its last part is final. Submitting the same
        plan again goes on where an earlier try stopped, and registers nothing twice."""
        key = f"{self.organization}/{plan.id}"
        standing = self.rows.get(f"plan/{key}")
        received = -1 if standing is None else standing["received"]
        for operations in plan.entries(self.organization):
            missing = [each for each in operations if each.get("part", -1) >= received]
            if missing:
                self.record(*missing)
        return self.plans.one(key)

    def leaderboard(self, objective: Objective, **view: Unpack[View]) -> Leaderboard:
        """The board of an objective, rebuilt here from the ledger's rows (rule B1); what of it,
        says leaderboard.View: revision, finals_only, size, where, best, top, limit, page."""
        return read_leaderboard(self, objective, view)

    def record_leaderboard(
        self, objective: Objective, revision: int | None = None
    ) -> dict[str, Any]:
        """Has the members record which rows of a board stand now (rule B6), at most once a second;
        bundles exported from then on prove it. What was recorded: index, size, time_ms, count,
        root."""
        number = revision or objective.revision
        operation = {"op": "leaderboard.record", "objective": objective.key}
        self.record(operation | {"revision": number})
        return self.rows.get(board_key(objective.key, number)) or {}

    def history(self, objective: Objective, **view: Unpack[View]) -> tuple[Leaderboard, ...]:
        """The boards of all revisions of an objective, newest first."""
        return tuple(
            read_leaderboard(self, objective, {**view, "revision": number})
            for number in revisions(self.rows, objective.key)
        )

    def certified_curve(self, objective: Objective, plan: str) -> tuple[tuple[int, str], ...]:
        """(rank, certified value) of the models of a plan (a key), in the order of training."""
        return read_curve(self, objective, plan)

    def export(self, row: LeaderboardRow, file: str | Path, *, since: int = 0) -> Path:
        """Writes a row as a proof bundle, which `tilth.verify` checks without any node, and beside
        it a `.tlog-proof` for each of its certified results. If the newest recorded board shows the
        row (`record_leaderboard`), the bundle proves that it stood then.

        `since`: the size of a checkpoint that the reader trusts already (0: none).
        """
        self.rows.reach()
        bundle = self.transport.prove(row.index, row.evidence, since)
        return write_proofs(Path(file), bundle, (row.index, *row.evidence))[0]

    def entries(self, start: int = 0, limit: int = 100) -> list[dict[str, Any]]:
        """Leaves of the ledger from an index on, decoded; fewer where the ledger ends."""
        found: list[dict[str, Any]] = []
        while len(found) < limit:
            index = start + len(found)
            page = self.transport.leaves(index, min(LEAVES, limit - len(found)))
            found += [_decoded(index + place, leaf) for place, leaf in enumerate(page)]
            if not page:
                break
        return found

    def entry(self, index: int) -> dict[str, Any]:
        """One leaf of the ledger, decoded."""
        self._need_entry(index)
        [found] = self.entries(index, 1)
        return found

    def prove(self, index: int, file: str | Path, *, since: int = 0) -> Path:
        """Writes one leaf as a proof bundle, which `tilth.verify` checks without any node, and
        beside it a `.tlog-proof`; `since` as in `export`."""
        self._need_entry(index)
        return write_proofs(Path(file), self.transport.prove(index, since=since), (index,))[0]

    def _need_entry(self, index: int) -> None:
        self.rows.reach()
        size = self.status()["size"]
        if not 0 <= index < size:
            raise InvalidInput(
                "there is no such entry",
                found=f"index {index} of {size} entries",
                expected=f"an index from 0 to {size - 1}",
                remedy="Look at them with: tilth ledger list",
            )


def _decoded(index: int, data: bytes) -> dict[str, Any]:
    leaf = Leaf.decode(data)
    return {
        "index": index,
        "id": leaf.id,
        "type": leaf.type,
        "signers": [key.hex() for key, _ in leaf.signatures],
        "payload": json.loads(leaf.payload),
    }
