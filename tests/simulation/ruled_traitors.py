"""A member that lies, over the real state machine: its leaves are entries that it may sign, its
blocks are executed by the real rules, and it goes on lying in the next epochs while it votes.

Left to others: how it leads (manners), what it says beside (chatter), twins (world).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from liar import Liar
from number_ledger import Consortium
from ruled_script import KeysOf

from tilth_ledger.epochs import Epoch
from tilth_ledger.execution import Executor, State
from tilth_ledger.leaf import write_entry
from tilth_ledger.merkle import Frontier
from tilth_ledger.rows import MemoryRows


@dataclass(frozen=True, slots=True)
class Beginning:
    """An epoch, and the ledger on which it starts."""

    epoch: Epoch
    rows: dict[str, bytes]
    frontier: Frontier
    accumulator: bytes
    time_ms: int

    @staticmethod
    def of(epoch: Epoch, rows: MemoryRows, state: State) -> Beginning:
        held = {key: rows.get_bytes(key) or b"" for key, _ in rows.items()}
        return Beginning(epoch, held, state.frontier, state.accumulator, state.time_ms)

    def place(self, member: int) -> int | None:
        """Where `m<member>` votes."""
        return self.epoch.member_index(f"m{member}")


class RuledLiar(Liar):
    """One lying member, in one epoch."""

    def __init__(
        self,
        beginning: Beginning,
        consortium: Consortium,
        member: int,
        random: Random,
        manner: str,
        talk: Random | None,
        met: Counter[str],
    ) -> None:
        place = beginning.place(member)
        assert place is not None
        epoch, name = beginning.epoch, f"m{member}"
        party = epoch.members[place]
        voting: Any = KeysOf(name)(party.keys.vote)
        keys = [voting] * len(epoch.members)
        super().__init__(
            replace(consortium, keys=tuple(keys)), place, random, manner, talk, met, epoch
        )
        self._name, self._admin = name, KeysOf(name, "admin")(party.keys.admin)
        self._dice = Random(f"entries of {name} in epoch {epoch.number}")
        self._executor = Executor(consortium.genesis, MemoryRows(beginning.rows))
        below = beginning.frontier, beginning.accumulator, beginning.time_ms
        self._states = {epoch.parent: self._executor.load(*below)}
        self._heights = {epoch.parent: (epoch.parent_height, epoch.parent_view)}
        self.view = epoch.first_view

    def entry(self, text: str) -> bytes:
        """Another person of its organization: nobody can object."""
        public = self._dice.randbytes(32).hex()
        operation = {"op": "identity.add", "public": public, "roles": ["scientist"]}
        nonce = self._dice.randbytes(16).hex()
        assert self._admin is not None
        return write_entry(
            self.genesis.net, self._name, self._admin, nonce, [operation], None
        ).encode()
