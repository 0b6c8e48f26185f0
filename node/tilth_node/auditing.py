"""A whole ledger verified again, offline, from a node's folder or a copy of it.

- Reads `genesis.json`, `ledger.db` (with its `-wal`) and `journal/votes` if it is there; changes
  none of them; a node may run on the folder meanwhile.
- The journal is read first: it promises only what was stored before.
- Signatures are verified in threads beside the execution: the library lets go of Python's lock.
- A large ledger is audited by three processes: one reads it and checks form and signatures of
  entries, one executes, one computes the set hash. A small one is done before those have started.
  Findings and their order are the same.
- Memory: a window of blocks, and all rows of the state, about 350 bytes each.

Leaves to others: what is checked (tilth_ledger.audit), reading SQLite (storage.ledger_copy), the
other processes (reading_ahead, hashing_aside), the command (audit_command).
"""

import gc
import os
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

from tilth_ledger.audit import Audit, StoredBlock
from tilth_ledger.audit_checks import Check, Outcome
from tilth_ledger.canonical import sha256_hex
from tilth_ledger.errors import Fatal, InvalidInput
from tilth_ledger.findings import Counts, Finding, Report, finding
from tilth_ledger.genesis import Genesis
from tilth_ledger.journal_records import Promised, decode_record, read_journal
from tilth_ledger.lthash import LtHash, SetHash
from tilth_node.beside import COLLECTIONS
from tilth_node.errors import StorageFailed
from tilth_node.folder import Folder
from tilth_node.hashing_aside import Aside
from tilth_node.reading_ahead import ReadingAhead
from tilth_node.storage.journal import NAME as JOURNAL
from tilth_node.storage.ledger_copy import LedgerCopy

CHECKS_PER_TURN = 64  # so that handing work to a thread costs little beside it
LARGE_BYTES = 16 << 20  # of the ledger's file: half a second's work

Show = Callable[[Counts, int], None]


def audit(path: Path, expected_hash: str | None = None, show: Show | None = None) -> Report:
    """Audit the ledger in a folder; `show` gets what was checked so far and the last height.

    Raises InvalidInput or OSError when there is nothing that can be read.
    """
    folder = Folder(path)
    genesis = _genesis(folder, expected_hash)
    with ExitStack() as processes:
        processes.callback(gc.set_threshold, *gc.get_threshold())
        gc.set_threshold(*COLLECTIONS)
        auditor = Audit(genesis, _hashing(folder, processes))
        return _audited(auditor, folder, show or _silent)


def _audited(auditor: Audit, folder: Folder, show: Show) -> Report:
    promised = _promised(folder, auditor.report)
    pool = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="verify")
    try:
        with LedgerCopy(folder.database) as copy:
            copy.check_whole()
            with closing(_blocks(folder, copy)) as blocks:
                return _through(auditor, copy, blocks, promised, pool, show)
    except StorageFailed as error:
        # The file opened, so what was read of it stands, and that it broke off is a finding.
        auditor.report.add(finding("storage", str(folder.database), error, "a file that reads"))
        auditor.report.stopped.append("the file cannot be read on: the rest was not checked")
        return auditor.report
    finally:
        pool.shutdown(cancel_futures=True)  # at Ctrl-C nothing but a turn of work is waited for


def _through(
    auditor: Audit,
    copy: LedgerCopy,
    blocks: Iterable[StoredBlock],
    promised: int,
    pool: ThreadPoolExecutor,
    show: Show,
) -> Report:
    def verify(checks: Sequence[Check]) -> Outcome:
        return _begun(pool, checks)

    height = copy.height()
    for counts in auditor.follow(blocks, verify):
        show(counts, height)
    with copy.still():  # a running node has gone on: the last blocks and the rows of one moment
        height = copy.height()
        for counts in auditor.follow(copy.more_blocks(), verify):
            show(counts, height)
        problems = pool.submit(_problems, copy.path)  # SQLite lets go of Python's lock
        report = auditor.finish(replace(copy.beside(), promised=promised))
        for problem in problems.result():
            report.add(finding("storage", str(copy.path), problem, "a whole file"))
    return report


def _problems(path: Path) -> list[str]:
    with LedgerCopy(path) as copy:
        return copy.problems()


def _is_large(folder: Folder) -> bool:
    """Whether other processes and cores are worth their start."""
    return folder.database.stat().st_size >= LARGE_BYTES and len(os.sched_getaffinity(0)) > 1


def _hashing(folder: Folder, processes: ExitStack) -> Callable[[LtHash], SetHash] | None:
    return processes.enter_context(Aside()).follow if _is_large(folder) else None


def _blocks(folder: Folder, copy: LedgerCopy) -> Generator[StoredBlock, None, None]:
    """All blocks that are there now; what a second process read of them first."""
    if _is_large(folder):
        with ReadingAhead(folder.database, folder.genesis) as ahead:
            yield from ahead.blocks()
            copy.go_on_from(ahead.place)
    yield from copy.more_blocks()


def _begun(pool: ThreadPoolExecutor, checks: Sequence[Check]) -> Outcome:
    turns: list[Future[list[Finding]]] = [
        pool.submit(_verified, checks[start : start + CHECKS_PER_TURN])
        for start in range(0, len(checks), CHECKS_PER_TURN)
    ]
    return lambda: [found for turn in turns for found in turn.result()]


def _verified(checks: Iterable[Check]) -> list[Finding]:
    return [found for check in checks if (found := check()) is not None]


def _genesis(folder: Folder, expected_hash: str | None) -> Genesis:
    for path in (folder.genesis, folder.database):
        if not path.is_file():
            raise InvalidInput(
                f"{folder.path} holds no ledger",
                found=f"no file {path.name}",
                expected="the folder of a node that has run, or a copy of it",
                remedy="Name such a folder.",
            )
    data = folder.genesis.read_bytes()
    if expected_hash is not None and sha256_hex(data) != expected_hash:
        raise InvalidInput(
            "this is not the genesis that was agreed on",
            found=sha256_hex(data),
            expected=expected_hash,
            remedy="get the file again, and compare the hash with the other sites",
        )
    return Genesis.parse(data)


def _promised(folder: Folder, report: Report) -> int:
    """How many blocks the journal says that the ledger held (F8); 0 without a journal."""
    place = folder.journal / JOURNAL
    if not place.is_file():
        return 0
    try:
        journal = read_journal(place.read_bytes())
        records = [decode_record(body) for body in journal.bodies]
        if journal.damaged:
            raise InvalidInput(
                "the journal is damaged at its end",
                found=f"bad bytes from {journal.good_bytes} on",
                expected="whole records, or one that a crash tore",
            )
    except (Fatal, InvalidInput) as error:
        report.add(finding("storage", str(place), error, "a journal that reads"))
        return 0
    return max((each.height for each in records if isinstance(each, Promised)), default=0)


def _silent(_counts: Counts, _height: int) -> None:
    """For who wants the report alone."""
