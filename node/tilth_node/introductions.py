"""Introductions: where the nodes of the other organizations are reached now, and under which TLS
authorities, for a node whose own copy of the ledger does not say it, or not any more: a newcomer
that knows the genesis alone, a member that was away while everybody moved.

- The file is public and written from any folder that is up to date. It opens connections and
  decides nothing: whatever comes over them is proven from the genesis on.
- It counts until this node's ledger is as long as the one it was written from; from then on the
  ledger's word alone does.

Leaves to others: which of several addresses is dialled (assemble), connections (peers).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tilth_ledger.errors import InvalidInput
from tilth_ledger.genesis import Genesis, Organization
from tilth_node import config
from tilth_node.folder import Folder
from tilth_node.storage.ledger_store import peek, peek_rows

FORMAT = "tilth-peers-1"
MAX_BYTES = 16 << 20
REMEDY = "Ask a member's operator for a new one: tilth node peers FOLDER --out peers.json"


@dataclass(frozen=True, slots=True)
class Introductions:
    """Whom a file introduces; `size` is that of the ledger it was written from."""

    size: int = 0
    authorities: Mapping[str, bytes] = field(default_factory=lambda: MappingProxyType({}))
    addresses: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


def write(path: Path, genesis: Genesis) -> bytes:
    """The file that introduces all who take part, from a node's folder. Raises InvalidInput."""
    database = Folder(path).database
    header = peek(database) if database.exists() else None
    rows = dict(peek_rows(database, "organization/")) if header is not None else {}
    if header is None:
        raise InvalidInput(
            f"{path} holds nothing of the ledger yet",
            found="no entry",
            expected="the folder of a node that is up to date",
            remedy="Run this at a member that is.",
        )
    parties = [_introduced(row) for row in rows.values() if not row.get("removed")]
    facts = {"format": FORMAT, "net": genesis.net, "size": header.size, "organizations": parties}
    return (json.dumps(facts, indent=1) + "\n").encode()


def _introduced(row: Mapping[str, Any]) -> dict[str, str]:
    party = Organization.from_row(row)
    facts = {"organization": party.organization, "tls_authority": party.tls_authority}
    return facts | ({"peer_address": party.peer_address} if party.peer_address else {})


def read(data: bytes, net: str) -> Introductions:
    """What such a file says. Raises InvalidInput."""
    try:
        facts = json.loads(data) if len(data) <= MAX_BYTES else None
        if not isinstance(facts, dict) or facts.get("format") != FORMAT:
            raise ValueError(f"format {facts.get('format') if isinstance(facts, dict) else None}")
        size, parties = facts["size"], list(facts["organizations"])
        if type(size) is not int or not 0 <= size < 1 << 63:
            raise ValueError(f"size {size}")
        authorities = {_text(each, "organization"): _pem(each) for each in parties}
        addresses = {
            _text(each, "organization"): _address(each)
            for each in parties
            if "peer_address" in each
        }
    except (ValueError, KeyError, TypeError, RecursionError, InvalidInput) as error:
        raise InvalidInput(
            "this file introduces nobody",
            found=f"{type(error).__name__}: {error}"[:200],
            expected=f"a file of format {FORMAT}",
            remedy=REMEDY,
        ) from error
    if facts.get("net") != net:
        raise InvalidInput(
            "the file introduces the nodes of another consortium",
            found=str(facts.get("net"))[:64],
            expected=net,
            remedy=REMEDY,
        )
    return Introductions(size, MappingProxyType(authorities), MappingProxyType(addresses))


def load(folder: Folder, net: str) -> Introductions:
    """Those of a folder; none where nobody gave any."""
    return read(folder.peers.read_bytes(), net) if folder.peers.exists() else Introductions()


def _text(party: Mapping[str, Any], name: str) -> str:
    value = party[name]
    if not isinstance(value, str) or not value:
        raise TypeError(f"{name} is no text")
    return value


def _pem(party: Mapping[str, Any]) -> bytes:
    text = _text(party, "tls_authority")
    if "BEGIN CERTIFICATE" not in text:
        raise ValueError("tls_authority is no certificate")
    return text.encode("ascii")


def _address(party: Mapping[str, Any]) -> str:
    text = _text(party, "peer_address")
    config.address(text)
    return text
