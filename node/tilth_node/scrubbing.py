"""Every byte that a node depends on, read again from its disk: leaves, tree, blocks, rows, journal,
the worker's database and blobs, and the folders that are made of them.

- From the leaves' bytes to the nodes, roots and headers; from the rows to the digest of the newest
  header; hashes link the blocks, certificates are verified, SQLite looks at its own pages.
- What is found names the file and, where others can give it back, the block.
- Nothing is executed and nothing is written: a node may run on the folder meanwhile. Memory: a page
  of blocks or rows. After each page `pace` is called with the seconds that it took, and with how
  much of the whole is done, in percent.
- Rows come first: what votes are judged by stands in them, and they take the least time.

Leaves to others: authors and rules (`tilth audit`), when to look and what to do (scrub_part), the
command (scrub_command).
"""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from tilth_ledger.audit import StoredBlock
from tilth_ledger.audit_checks import read_justification
from tilth_ledger.blocks import Block, Certificate, Header
from tilth_ledger.canonical import loads
from tilth_ledger.epochs import epoch_key
from tilth_ledger.errors import Fatal, InvalidInput, TilthError
from tilth_ledger.genesis import Genesis
from tilth_ledger.journal_records import decode_record, read_journal
from tilth_ledger.lthash import LtHash
from tilth_ledger.merkle import Frontier
from tilth_ledger.snapshots import Voters, check_final, grown
from tilth_node import scrub_trees
from tilth_node.folder import Folder
from tilth_node.storage import journal
from tilth_node.storage.desk import problems_of
from tilth_node.storage.ledger_copy import LedgerCopy
from tilth_node.storage.soundness import damaged, remedy_of
from tilth_node.storage.vault import Shelf

PAGE_BLOCKS = 16
PAGE_ROWS = 512
MAX_ROW_BYTES = 1 << 20
MOST_DAMAGES = 1_000  # that are listed
BLOCK_REMEDY = "A running node gets the block back from the others; start it, or look at the disk."
BLOB_REMEDY = (
    "A running node sets it aside and fetches it again from another one when a task wants it; look"
    " at the disk."
)
ASIDE_REMEDY = (
    "It is fetched again from another node when a task wants it. If no other has it, put a copy at"
    " vault/ under the first two digits of its name; remove this file when nobody needs it."
)
SMALL_BYTES = 2 << 20  # what is looked through at every start, in some tenths of a second

Pace = Callable[[float, int], None]


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is not as it was written; `height` of the block that holds it, or 0."""

    file: str
    what: str
    remedy: str
    height: int = 0
    blob: str = ""  # its digest, where it is a file of the vault


@dataclass(slots=True)
class Scrubbed:
    """What was looked at, and what was found."""

    blocks: int = 0
    leaves: int = 0
    rows: int = 0
    records: int = 0
    blobs: int = 0
    damages: list[Damage] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not self.damages

    def add(self, damage: Damage) -> None:
        if len(self.damages) < MOST_DAMAGES:
            self.damages.append(damage)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def ignore(_seconds: float, _percent: int) -> None:
    """The pace of who has no other work."""


def scrub(path: Path, pace: Pace = ignore) -> Scrubbed:
    """Look through a node's folder. Raises InvalidInput when it is none."""
    folder, found = _begun(path)
    _journal(folder, found)
    if folder.database.is_file():
        _ledger(folder.database, found, pace, partial(_all, folder))
    _worker(folder, found, pace)
    _trees(folder, found, pace)
    return found


def scrub_rows(path: Path, pace: Pace = ignore) -> Scrubbed:
    """Look through the ledger's rows alone. Raises InvalidInput when it is no node's folder."""
    folder, found = _begun(path)
    if folder.database.is_file():
        _ledger(folder.database, found, pace, _rows)
    return found


def _begun(path: Path) -> tuple[Folder, Scrubbed]:
    folder = Folder(path)
    if not folder.genesis.is_file():
        raise InvalidInput(f"{path} is not the folder of a node", found="no genesis.json")
    return folder, Scrubbed()


def check_small(folder: Folder, *, alone: bool) -> bool:
    """At a start: look through a ledger's file that is small. Raises StorageFailed when rows, or
    what finds them, are damaged. Whether single blocks are: others give them back while the node
    runs, unless it is alone."""
    file = folder.database
    log = file.with_name(f"{file.name}-wal")
    if sum(each.stat().st_size for each in (file, log) if each.exists()) > SMALL_BYTES:
        return False
    found = Scrubbed()
    _ledger(file, found, ignore, partial(_all, folder))
    for each in found.damages:
        if alone or not each.height:
            raise damaged(file, each.what)
    return not found.clean


def _journal(folder: Folder, found: Scrubbed) -> None:
    file = folder.journal / journal.NAME
    if not file.is_file():
        return
    try:
        read = read_journal(file.read_bytes())
        records = [decode_record(body) for body in read.bodies]
    except (Fatal, InvalidInput) as error:
        found.add(Damage(str(file), str(error), journal.remedy_of(file)))
        return
    found.records = len(records)
    if read.bad_bytes and not folder.ready.exists():
        words = f"{read.bad_bytes} bytes at its end are no record: torn by a crash, or damaged"
        found.add(Damage(str(file), words, journal.remedy_of(file)))


def _worker(folder: Folder, found: Scrubbed, pace: Pace) -> None:
    """What the worker keeps: its database, and blobs, whose names are the digests of their bytes.
    Both go on changing beside a node that runs."""
    file = folder.path / "worker.db"
    for problem in problems_of(file) if file.is_file() else ():
        found.add(Damage(str(file), problem, remedy_of(file)))
    shelf, begun = Shelf(folder.path / "vault"), time.monotonic()

    def rest() -> None:
        nonlocal begun
        pace(time.monotonic() - begun, 99)
        begun = time.monotonic()

    for digest in shelf.digests():
        try:
            really = shelf.found(digest, rest)
        except FileNotFoundError:  # nobody needs it any more
            continue
        except OSError as error:
            really = str(error)
        found.blobs += 1
        if really != digest:
            words = f"the digest of its bytes is {really}"
            found.add(Damage(str(shelf.path(digest)), words, BLOB_REMEDY, blob=digest))
    for aside in shelf.damaged():
        if not shelf.has(aside.name):
            found.add(Damage(str(aside), "it was set aside as damaged", ASIDE_REMEDY))


def _trees(folder: Folder, found: Scrubbed, pace: Pace) -> None:
    """What tasks read beside blobs; see scrub_trees."""
    begun = time.monotonic()

    def rest() -> None:
        nonlocal begun
        pace(time.monotonic() - begun, 99)
        begun = time.monotonic()

    def left(task: str) -> str | None:
        """What the ledger says a task left in its local folder."""
        with LedgerCopy(folder.database) as copy:
            value = copy.row(f"task/{task}")
        row = {} if value is None else loads(value, max_bytes=MAX_ROW_BYTES)
        stated = row.get("receipt", {}).get("local_out")
        return None if stated is None else str(stated)

    desk = folder.path / "worker.db"
    looks = [scrub_trees.code(folder.path, rest)]
    looks += [scrub_trees.sets(folder.path, desk, rest)] if desk.is_file() else []
    looks += [scrub_trees.local(folder.path, left, rest)] if folder.database.is_file() else []
    try:
        for path, what, remedy in chain.from_iterable(looks):
            found.add(Damage(str(path), what, remedy))
    except TilthError as error:  # of the ledger's file, which was looked at before
        found.add(Damage(str(folder.database), str(error), remedy_of(folder.database)))


def _ledger(file: Path, found: Scrubbed, pace: Pace, look: "_Look") -> None:
    try:
        with LedgerCopy(file) as copy, closing(_Paced(pace, found, copy.counts())) as paced:
            copy.check_schema()
            look(copy, found, paced)
    except TilthError as error:
        found.add(Damage(str(file), str(error), remedy_of(file)))
    except (KeyError, TypeError, ValueError) as error:  # rows of another form than were written
        found.add(Damage(str(file), f"{type(error).__name__}: {error}", remedy_of(file)))


def _all(folder: Folder, copy: LedgerCopy, found: Scrubbed, paced: "_Paced") -> None:
    _rows(copy, found, paced)
    genesis = Genesis.parse(folder.genesis.read_bytes())
    blocks = _Blocks(str(copy.path), genesis, copy, found)
    for number, stored in enumerate(copy.more_blocks()):
        blocks.look_at(stored)
        if number % PAGE_BLOCKS == 0:
            paced.turn()
    for problem in copy.problems():
        found.add(Damage(str(copy.path), problem, remedy_of(copy.path)))


class _Paced:
    """Tells how long each piece of work took, and how far all of it is."""

    def __init__(self, pace: Pace, found: Scrubbed, counts: tuple[int, int]) -> None:
        self._pace, self._found, self._total = pace, found, max(1, sum(counts))
        self._begun = time.monotonic()

    def turn(self) -> None:
        done = 100 * (self._found.rows + self._found.leaves) // self._total
        self._pace(time.monotonic() - self._begun, min(done, 99))
        self._begun = time.monotonic()

    def close(self) -> None:
        self.turn()


_Look = Callable[[LedgerCopy, Scrubbed, _Paced], None]


class _Blocks:
    """All blocks of a ledger's file, in order of height."""

    def __init__(self, file: str, genesis: Genesis, copy: LedgerCopy, found: Scrubbed) -> None:
        self._file, self._copy, self._found = file, copy, found
        self._net = genesis.net_bytes
        self._known: dict[int, Voters] = {}
        height, size = copy.begin_at_history()
        self._parent = genesis.net_bytes if height == 1 else None
        self._tree: Frontier | None = copy.frontier(size)

    def look_at(self, stored: StoredBlock) -> None:
        found = self._found
        found.blocks += 1
        found.leaves += len(stored.leaves)
        header: Header | None = None
        try:
            header = Header.decode(stored.header)
            self._tree = self._check(stored, header)
        except TilthError as error:
            found.add(Damage(self._file, str(error), BLOCK_REMEDY, stored.height))
            self._tree = self._copy.frontier(stored.size)
        self._parent = None if header is None else header.hash

    def _check(self, stored: StoredBlock, header: Header) -> Frontier:
        if self._parent is not None and header.parent != self._parent:
            raise InvalidInput("block does not stand on the one before it", found=stored.height)
        if (header.height, header.size) != (stored.height, stored.size):
            raise InvalidInput("block stands in another place", found=header.height)
        if self._tree is None:
            raise InvalidInput("the tree below the block has a hole", found=stored.size)
        block = Block(header, stored.leaves, read_justification(stored.justification))
        voters = self._voters(header.epoch)
        voters.check(block, self._tree.size)
        tree, nodes = grown(self._tree, block)
        if set(nodes) != set(stored.nodes):
            raise InvalidInput("the tree's nodes are not those of the leaves", found=stored.height)
        if stored.certificate is not None:
            certificate = Certificate.decode(stored.certificate)
            void = tuple(Block.decode(each) for each in stored.void)
            check_final(block, void, certificate, voters.epoch)
        return tree

    def _voters(self, number: int) -> Voters:
        if number not in self._known:
            value = self._copy.row(epoch_key(number))
            if value is None:
                raise InvalidInput("block is of an unknown epoch", found=number)
            row = loads(value, max_bytes=MAX_ROW_BYTES)
            self._known[number] = Voters.of(number, row, self._net)
        return self._known[number]


def _rows(copy: LedgerCopy, found: Scrubbed, paced: _Paced) -> None:
    """Rows against the digest of the newest header: all of one moment."""
    total = LtHash()
    with copy.still():
        for page in _pages(copy.rows()):
            total = total.replace((), page)
            found.rows += len(page)
            paced.turn()
        stated = copy.newest()
    if stated is None:
        return
    header, accumulator = stated
    if accumulator != total.state or total.digest() != header.state:
        words = f"its {found.rows} rows do not give the digest of block {header.height}"
        found.add(Damage(str(copy.path), words, remedy_of(copy.path)))


def _pages(rows: Iterator[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    page: list[tuple[str, bytes]] = []
    for row in rows:
        page.append(row)
        if len(page) == PAGE_ROWS:
            yield page
            page = []
    yield page
