"""The entries of an audit without the state: whose keys may sign, and what can be found out ahead.

Invariants:
- Authors follow from genesis and from the entries before, in order, whatever the rules say of them:
  whether an author may act is judged when its entry is executed.
- `Preview` says yes only of what the audit itself would find nothing against; where it does not
  know an author (keys of later epochs), or a form is not that of every version of the rules, it
  says no, and the audit looks.

Left to others: executing (audit), where a preview runs (the node).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tilth_ledger.errors import InvalidInput, Refused
from tilth_ledger.forms import Forms
from tilth_ledger.genesis import Genesis
from tilth_ledger.keys import PublicKey
from tilth_ledger.leaf import ENTRY, Entry, Leaf, leaf_type, verify_author
from tilth_ledger.state import genesis_rows
from tilth_ledger.versions import RULES, Rules

FAULTS = (InvalidInput, Refused)  # of the ledger; any other error is of the machine that audits


class Authors:
    """Keys that sign entries, by their ids."""

    def __init__(self, genesis: Genesis) -> None:
        self._known: dict[str, PublicKey] = {}
        for key, row in genesis_rows(genesis):
            if key.startswith("identity/"):
                self.add(PublicKey.from_hex(row["public"]))

    def add(self, public: PublicKey) -> None:
        self._known[public.key_id] = public

    def of(self, entry: Entry) -> PublicKey | None:
        """The key of an entry's author; then the keys that it adds are known too. Raises
        `InvalidInput`."""
        author = self._known.get(entry.author)
        for operation in entry.operations:
            if operation["op"] == "identity.add":
                self.add(PublicKey.from_hex(operation["public"]))
        return author


class Preview:
    """Looks at entries ahead of an audit, in order."""

    def __init__(self, genesis: Genesis, rules: Mapping[int, Rules] = RULES) -> None:
        self._forms = Forms(genesis, rules)
        self._authors = Authors(genesis)

    def of(self, leaves: Sequence[bytes]) -> tuple[bool, bool]:
        """Whether all entries among a block's leaves are well formed, and whether all are signed by
        their authors too."""
        seen = [self._look(leaf) for leaf in leaves if leaf_type(leaf) == ENTRY]
        formed = None not in seen
        return formed, formed and all(_is_signed(*each) for each in seen if each is not None)

    def _look(self, leaf: bytes) -> tuple[Leaf, PublicKey | None] | None:
        try:
            decoded, entry = self._forms.check(leaf)
            return decoded, self._authors.of(entry)
        except FAULTS:
            return None


def _is_signed(leaf: Leaf, author: PublicKey | None) -> bool:
    if author is None:
        return False
    try:
        verify_author(leaf, author)
    except InvalidInput:
        return False
    return True
