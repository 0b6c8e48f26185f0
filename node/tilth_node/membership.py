"""What a running node takes from the ledger about who takes part: with whom it connects, under
which TLS authorities, and with which keys of its own.

- The rows of the final state count, from the moment on when they are final: nothing is configured
  again, and nothing needs a restart.
- What only a node can check of a change is checked where it is handed in: that this release has the
  rules that are to come (M6).

Leaves to others: what a change does (tilth_ledger.rules_members), connections (peers).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tilth_ledger.errors import Refused
from tilth_ledger.execution import Executor
from tilth_ledger.genesis import Genesis, Organization
from tilth_ledger.keys import PublicKey, SigningKey
from tilth_ledger.leaf import Entry, Leaf
from tilth_node import keystore
from tilth_node.introductions import Introductions
from tilth_node.storage.ledger_store import LedgerStore


class Roll:
    """Who takes part, as this node's copy of the ledger says."""

    def __init__(
        self,
        genesis: Genesis,
        organization: str,
        keys: Path,
        store: LedgerStore,
        introduced: Introductions,
    ) -> None:
        self._genesis = genesis
        self._organization = organization
        self._folder = keys
        self._store = store
        self._introduced = introduced
        self._listed = {each.organization: each.peer_address or "" for each in genesis.everyone()}
        self.keys = self._own_keys()

    def refresh(self) -> None:
        """An epoch began: this node's own keys may be others now."""
        self.keys = self._own_keys()

    def vote_key(self, public: PublicKey) -> SigningKey | None:
        """The signing key of a public vote key, if this node holds it; a rotation adds to them."""
        return keystore.vote_key(self._folder, public)

    def authorities(self) -> dict[str, bytes]:
        """The TLS authority of every organization that takes part, as far as this node knows; of
        one that was introduced, both."""
        known = {each.organization: each.tls_authority.encode() for each in self._present()}
        if self._store.size < self._introduced.size:
            for name, told in self._introduced.authorities.items():
                known[name] = known.get(name, b"").replace(told, b"") + told
        return known

    def address(self, organization: str) -> str:
        """Where an organization's node is reached: by introduction, the ledger or the genesis."""
        introduced = self._introduced.addresses.get(organization, "")
        if introduced and self._store.size < self._introduced.size:
            return introduced
        row = self._store.rows.get(f"organization/{organization}") or {}
        told = row.get("peer_address") or self._listed.get(organization, "")
        return told if isinstance(told, str) else ""

    def _present(self) -> Iterator[Organization]:
        if not self._store.seeded:
            yield from self._genesis.everyone()
            return
        for _, row in self._store.rows.scan("organization/"):
            if not row.get("removed"):
                yield Organization.from_row(row)

    def _own_keys(self) -> keystore.Keys:
        present = (each for each in self._present() if each.organization == self._organization)
        mine = next(present, None)
        keys = keystore.load(self._folder, mine)
        listed = mine is None or mine.keys.node == keys.node.public
        self.unlisted = "" if listed else _other_node_key(self._folder)
        return keys


def _other_node_key(keys: Path) -> str:
    return (
        f"{keys / keystore.NODE} is not the key that the ledger lists for this node, or is damaged:"
        " its tasks' reports will be refused. Put it back from its backup, or make a new one: tilth"
        " node rotate, then tilth member rotate"
    )


def check(leaf: bytes, executor: Executor, store: LedgerStore) -> None:
    """Raise `Refused` for a proposal or approval that the ledger takes, but this node must not."""
    if b'"member.' not in leaf:  # all but the rarest entries cost no second look
        return
    entry = Entry.parse(Leaf.decode(leaf), executor.limits.entry_operations)
    for operation in entry.operations:
        _check_rules(_change(operation, store), executor)


def _change(operation: Mapping[str, Any], store: LedgerStore) -> Mapping[str, Any]:
    """The change that an operation proposes or approves; empty for any other."""
    if operation["op"] == "member.propose":
        return dict(operation["change"])
    if operation["op"] == "member.approve":
        proposal = store.rows.get(f"proposal/{operation['proposal']}") or {}
        return dict(proposal.get("change", {}))
    return {}


def _check_rules(change: Mapping[str, Any], executor: Executor) -> None:
    version = change.get("rules_version")
    if isinstance(version, int) and not executor.knows(version):
        raise Refused(
            "M6",
            "this node lacks the rules that the change would put in force",
            found=f"rules_version {version}",
            expected="a version that this release has",
            remedy="Install the new release on this node first.",
        )
