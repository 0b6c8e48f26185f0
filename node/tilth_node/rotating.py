"""What a site makes for a change of who votes: new keys, and a statement of what it holds.

- New keys are born beside the old ones (keystore), with a member file that all of them sign, as at
  the founding; nothing counts before the ledger lists it.
- The copy that a new voter states is read from its own store, and signed with the vote key that its
  newest member file names.

Leaves to others: proposing and approving (`tilth member`), using the keys (membership).
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from tilth_ledger import recent_heads
from tilth_ledger.epochs import state_copy
from tilth_ledger.errors import InvalidInput
from tilth_ledger.genesis import Organization, member_file, parse_member_file
from tilth_node import config, founding, keystore, tls
from tilth_node.clock import Clock
from tilth_node.folder import Folder, write_file
from tilth_node.storage.ledger_store import peek, peek_rows

WHAT = ("member", "node", "admin", "tls")
NEXT = "member-next.json"


def rotate(path: Path, what: Collection[str], clock: Clock, *, overlap: bool = True) -> Path:
    """Make new keys in a node's folder; the member file that names them. Without `overlap` the old
    TLS authority does not vouch for the new one."""
    folder, settings = Folder(path), config.load(path)
    now = _member(folder)
    authority = tls.new_authority(settings.organization, clock.utc())
    keystore.rotate(folder.keys, clock, what, authority, overlap=overlap)
    keys = keystore.load_newest(folder.keys)
    content = member_file(
        now.organization,
        now.name,
        keystore.newest_signers(folder.keys),
        keys.authority.decode("ascii"),
        aggregates=now.aggregates,
        peer_address=now.peer_address,
        client_address=now.client_address,
        mldsa=keys.mldsa,
    )
    write_file(path / NEXT, content)
    return path / NEXT


def copy_held(path: Path) -> dict[str, Any]:
    """The statement that this node holds the ledger at the newest size whose root every voter has
    in its rows (M5)."""
    folder = Folder(path)
    genesis = founding.load_genesis(folder)
    header = peek(folder.database) if folder.database.exists() else None
    if header is None:
        raise InvalidInput(
            f"{path} holds nothing of the ledger yet",
            found="no entry",
            expected="a node that follows the ledger",
            remedy="Let the members admit it without a vote first, and run it until it caught up.",
        )
    heads = (row for _, row in peek_rows(folder.database, recent_heads.PREFIX))
    head = recent_heads.newest(heads, header.size)
    if head is None:
        raise InvalidInput(
            f"{path} holds no entry of the ledger yet",
            found=f"{header.size} entries",
            expected="a ledger with entries: the admission of this organization is one",
            remedy="Let the members admit it without a vote first, and run it until it caught up.",
        )
    key = keystore.load_newest(folder.keys).vote
    return state_copy(genesis.net_bytes, head["size"], bytes.fromhex(head["root"]), key)


def _member(folder: Folder) -> Organization:
    newer = folder.path / NEXT
    return parse_member_file((newer if newer.exists() else folder.member).read_bytes())
