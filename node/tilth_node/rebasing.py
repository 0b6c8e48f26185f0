"""A rebase on a node's folder: sign where the old ledger ended, write the new genesis, move over.

- The old ledger, its votes and its genesis are kept below `before/<net>`, whole: `tilth audit`
  verifies them there, and every proof made from them holds.
- Keys, samples and blobs stay; what waited to be said to the old ledger is dropped.
- The new genesis comes first and the old ledger goes after it: a crash in between leaves a folder
  that no node starts on, and the same command finishes it.

Leaves to others: what is signed and checked (tilth_ledger.rebase), the words (rebase_command).
"""

from collections.abc import Sequence
from pathlib import Path

from tilth_ledger import rebase
from tilth_ledger.blocks import Certificate, Header
from tilth_ledger.epochs import Epoch, epoch_key
from tilth_ledger.errors import InvalidInput
from tilth_ledger.genesis import Genesis
from tilth_ledger.snapshots import voters_of
from tilth_node import config, founding, keystore
from tilth_node.folder import Folder, sync_folder, write_file
from tilth_node.storage import journal
from tilth_node.storage.desk import open_desk
from tilth_node.storage.ledger_store import peek_end, peek_rows


def sign(path: Path, like: bytes | None = None) -> bytes:
    """This member's statement about the last final block of its folder, or about the one of another
    member's statement, which proves by its certificate that it was final."""
    settings, folder = config.load(path), Folder(path)
    genesis = founding.load_genesis(folder)
    epoch, header, certificate = _end(folder, genesis)
    if like is not None:
        other = rebase.gather([like])
        other.check(epoch, _final(folder, genesis, other.certificate))
        header, certificate = other.header, other.certificate
    mine = {each.organization: each for each in epoch.members}.get(settings.organization)
    key = keystore.load(folder.keys, mine).vote
    statement = rebase.sign(settings.organization, key, header, certificate)
    rebase.gather([statement]).check(epoch, _final(folder, genesis, certificate))
    return statement


def begin(path: Path, name: str, statements: Sequence[bytes]) -> Genesis:
    """The new genesis of those who signed; the folder is of any member that holds the block."""
    folder = Folder(path)
    old = founding.load_genesis(folder)
    epoch, _, _ = _end(folder, old)
    checkpoint = rebase.gather(statements)
    return rebase.write(name, checkpoint, epoch, old, _final(folder, old, checkpoint.certificate))


def join(path: Path, genesis_file: Path) -> Genesis:
    """Move a folder from the old consortium to the new one. Raises InvalidInput when the new
    genesis is not signed by members of the old."""
    folder = Folder(path)
    data = genesis_file.read_bytes()
    genesis = Genesis.parse(data)
    checkpoint = rebase.continued(genesis)
    before = folder.path / "before" / checkpoint.net[:16]
    with folder.locked():
        if folder.genesis.read_bytes() != data:
            old = founding.load_genesis(folder)
            if checkpoint.net != old.net:
                raise InvalidInput(
                    "the new genesis continues another consortium",
                    found=checkpoint.net,
                    expected=old.net,
                    remedy="Use the genesis that the remaining members of this one wrote.",
                )
            epoch, _, _ = _end(folder, old)
            checkpoint.check(epoch, _final(folder, old, checkpoint.certificate))
            _check_keys(genesis, folder)
            before.mkdir(parents=True, exist_ok=True)
            write_file(before / folder.genesis.name, old.bytes)
            write_file(folder.genesis, data)
        # A crash here leaves the new genesis beside the old ledger: no node starts on the two, and
        # the next try goes on below.
        _move(folder, before)
    return genesis


def _end(folder: Folder, genesis: Genesis) -> tuple[Epoch, Header, Certificate]:
    """The epoch in force, the last final block and its certificate."""
    found = peek_end(folder.database) if folder.database.exists() else None
    if found is None:
        raise InvalidInput(
            f"{folder.path} holds no final block",
            expected="the folder of a member that took part",
            remedy="Nothing is lost with this ledger: found a new consortium instead.",
        )
    header, certificate, members = found
    return Epoch.starting(members, genesis.net_bytes), header, certificate


def _final(folder: Folder, genesis: Genesis, certificate: Certificate) -> Epoch | None:
    """Who voted in the epoch of a certificate, as this folder's ledger lists them."""
    rows = dict(peek_rows(folder.database, epoch_key(certificate.epoch)))
    row = rows.get(epoch_key(certificate.epoch))
    voters = None if row is None else voters_of(certificate.epoch, row)
    return None if voters is None else Epoch.starting(voters, genesis.net_bytes)


def _check_keys(genesis: Genesis, folder: Folder) -> None:
    """The new genesis lists this folder's organization with keys that lie here: those of now, not
    those of its member file."""
    name = config.load(folder.path).organization
    listed = {each.organization: each for each in genesis.everyone()}.get(name)
    if listed is None:
        raise InvalidInput(
            f"the new genesis does not list {name}",
            found=", ".join(each.organization for each in genesis.everyone()),
            remedy="Its members admit it: tilth member propose --admit member.json",
        )
    held = keystore.load(folder.keys, listed)
    found = held.vote.public, held.node.public, held.authority.decode("ascii")
    if found != (listed.keys.vote, listed.keys.node, listed.tls_authority):
        raise InvalidInput(
            f"the new genesis lists {name} with keys that this folder does not hold",
            expected="the keys that the old ledger listed last",
            remedy=f"restore {folder.keys} from its backup, with the folders of its rotations",
        )


def _move(folder: Folder, before: Path) -> None:
    # What an earlier try moved stays: in its place stands what the new consortium wrote since.
    of_the_ledger = folder.database, folder.cosignatures, folder.journal
    waiting = folder.joining, folder.snapshot, folder.peers  # for a next start under the old name
    for name in (each.name for each in (*of_the_ledger, *waiting)):
        if (before / name).exists():
            continue
        for file in (f"{name}-wal", f"{name}-shm", name):
            if (folder.path / file).exists():
                (folder.path / file).replace(before / file)
    if not folder.journal.exists():
        journal.begin(folder.journal)  # under the new name nothing was signed
    sync_folder(before)
    sync_folder(folder.path)
    worker = folder.path / "worker.db"
    if worker.exists():
        desk = open_desk(worker)
        for statement in desk.outbox.all():
            desk.outbox.remove(statement.task, statement.attempt)
        desk.close()
