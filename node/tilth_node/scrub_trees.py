"""What tasks read beside blobs, looked at again: unpacked archives, sample sets, local folders.

- `code/DIGEST` packs again into the bytes of that digest, as equal folders give equal archives.
- `sets/SET/...` holds links to the samples' own files, which are hashed where they lie (rule D2),
  and copies, each with the digest that its sample was registered with.
- `local/PLAN/TASK` has the digest that its task's receipt states on the ledger.
- A running node makes and removes such folders meanwhile: what is gone, or looks different at a
  second look, was not damaged.

Left to others: the pace and what else is looked at (scrubbing).
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from hashlib import sha256
from pathlib import Path

from tilth_ledger.archive import ArchiveFile, write
from tilth_ledger.errors import InvalidInput
from tilth_ledger.tree import tree_digest
from tilth_node.storage import walk
from tilth_node.storage.desk import samples_of
from tilth_node.storage.samples import Sample
from tilth_node.storage.sets import sample_name

FILE_BYTES = 64 << 20  # an unpacked file is held in memory; larger ones are not looked at
CODE_REMEDY = "Remove this folder while no task runs: it is unpacked again from its blob."
SET_REMEDY = "Remove this folder while no task runs: it is made again from the samples."
LOCAL_REMEDY = (
    "Nobody else has it. The next task of the plan would start from it and its receipt would show"
    " another digest: cancel the plan, or restore the folder from a copy."
)

Finding = tuple[Path, str, str]  # what, in which way, what to do
Receipt = Callable[[str], str | None]  # task -> digest of the local folder that it left


def code(home: Path, rest: Callable[[], None]) -> Iterator[Finding]:
    """Unpacked archives that are not what their names say."""
    for folder in _folders(home / "code"):
        found = _twice(partial(archive_digest, folder, rest), folder.name)
        if found is not None:
            yield folder, f"it packs into {found}", CODE_REMEDY


def local(home: Path, receipt: Receipt, rest: Callable[[], None]) -> Iterator[Finding]:
    """Local folders that are not what their tasks' receipts say."""
    for plan in _folders(home / "local"):
        for folder in _folders(plan):
            stated = receipt(folder.name.replace("+", "/", 1))
            if stated is None:
                continue
            found = _twice(partial(tree_digest_of, folder, rest), stated)
            if found is not None:
                yield folder, f"the digest of its files is {found}, not {stated}", LOCAL_REMEDY


def sets(home: Path, database: Path, rest: Callable[[], None]) -> Iterator[Finding]:
    """Files of sample sets that are not what was registered."""
    trees = [kind for each in _folders(home / "sets") for kind in _folders(each)]
    if not trees:
        return
    for sample in samples_of(database):
        for tree in trees:
            folder = tree / sample_name(sample.key)
            for path in _changed(folder, sample, rest) if folder.is_dir() else ():
                yield folder / path, "it is not what was registered", SET_REMEDY


def archive_digest(folder: Path, rest: Callable[[], None]) -> str:
    """SHA-256 of the archive of a folder's files, one of which is held at a time."""
    digest = sha256()
    end = write([])
    for item in walk.listing(folder):
        if item.size > FILE_BYTES:
            raise FileNotFoundError(item.path)
        with walk.open_plain(folder, item.path) as file:
            data = file.read()
        packed = write([ArchiveFile(item.path, item.executable, data)])
        digest.update(packed[: -len(end)])
        rest()
    digest.update(end)
    return digest.hexdigest()


def tree_digest_of(folder: Path, rest: Callable[[], None]) -> str:
    """The tree digest of a folder."""
    return tree_digest([seen.entry for seen in walk.scan(folder, lambda _: rest())])


def _changed(folder: Path, sample: Sample, rest: Callable[[], None]) -> list[str]:
    """Paths of copies in a sample's folder that do not have their digest."""
    registered = {seen.entry.path: seen for seen in sample.files}
    found = []
    with suppress(FileNotFoundError):
        for item in walk.listing(folder):
            seen = registered.get(item.path)
            if seen is None:
                found.append(item.path)
            elif item.inode != seen.inode:
                held = walk.hash_file(folder, item, lambda _: rest()).entry
                if held.digest != seen.entry.digest:
                    found.append(item.path)
    return found


def _twice(look: Callable[[], str], stated: str) -> str | None:
    """What a folder really is, when that is not what is stated of it, at two looks."""
    with suppress(FileNotFoundError, NotADirectoryError):
        found = _words(look)
        if found != stated and found == _words(look):
            return found
    return None


def _words(look: Callable[[], str]) -> str:
    try:
        return look()
    except InvalidInput as error:
        return str(error)


def _folders(parent: Path) -> list[Path]:
    """Finished folders below a folder: attempts and parts have a dot in their names."""
    with suppress(FileNotFoundError):
        return sorted(each for each in parent.iterdir() if each.is_dir() and "." not in each.name)
    return []
