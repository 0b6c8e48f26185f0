"""What a step left: a look at a folder that hostile code wrote.

Invariants
- Only declared outputs are seen, only regular files in plain folders count; a link, a device or a
  pipe makes the output wrong, and none is ever followed or opened. So does a folder where the
  contract has a file, and the reverse: whoever reads outputs may rely on their kind.
- Sizes are compared with their bounds before a byte is read; a sparse file counts in full.

Runs as pid 1 of the isolation, when no process that could change the folder is left.
"""

import os
import stat
from collections.abc import Sequence
from typing import Any, NamedTuple

from tilth_ledger.errors import InvalidInput
from tilth_ledger.tree import check_path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class OutputFile(NamedTuple):
    """One regular file, `path` relative to the root that was looked at."""

    path: str
    size: int
    executable: bool


class Found(NamedTuple):
    """The files of all outputs; or, with a reason, none."""

    files: tuple[OutputFile, ...] = ()
    reason: str = ""
    detail: str = ""


class _WrongError(Exception):
    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def look(root: str, declared: Sequence[dict[str, Any]], max_files: int) -> Found:
    """The files of `declared` outputs ({"path", "required", "max_bytes"}) below `root`."""
    files: list[OutputFile] = []
    try:
        for output in declared:
            files += _one(root, output, max_files - len(files))
    except _WrongError as wrong:
        return Found(reason=wrong.reason, detail=wrong.detail)
    return Found(tuple(files))


def open_below(root: str, path: str) -> int:
    """Open a file that `look` found, without following any link on the way."""
    *folders, name = path.split("/")
    fd = os.open(root, _FOLDER)
    for folder in folders:
        inner = os.open(folder, _FOLDER, dir_fd=fd)
        os.close(fd)
        fd = inner
    file = os.open(name, _FILE, dir_fd=fd)
    os.close(fd)
    return file


def _one(root: str, output: dict[str, Any], max_files: int) -> list[OutputFile]:
    path, limit = output["path"], output["max_bytes"]
    found = _walk(root, path, max_files)
    if not found and output["required"]:
        raise _WrongError("missing_output", f"{path} was not written")
    _check_kind(path, found)
    total = sum(file.size for file in found)
    if total > limit:
        raise _WrongError("too_large", f"{path} has {total} bytes, at most {limit} are allowed")
    return found


def _check_kind(path: str, found: Sequence[OutputFile]) -> None:
    """The contract's single files are its .json ones; all other outputs are folders."""
    wanted, is_file = path.endswith(".json"), any(file.path == path for file in found)
    if found and wanted != is_file:
        kinds = ("a folder", "a file")
        raise _WrongError("wrong_shape", f"{path} is {kinds[is_file]}, not {kinds[wanted]}")


def _walk(root: str, path: str, max_files: int) -> list[OutputFile]:
    files: list[OutputFile] = []
    waiting = [path] if _way_is_plain(root, path) else []
    while waiting:
        path = waiting.pop()
        facts = _facts(root, path)
        if facts is None:
            continue
        if stat.S_ISDIR(facts.st_mode):
            waiting += [f"{path}/{name}" for name in _names(root, path)]
        elif stat.S_ISREG(facts.st_mode):
            files.append(OutputFile(path, facts.st_size, bool(facts.st_mode & stat.S_IXUSR)))
        else:
            raise _WrongError("wrong_shape", f"{path} is neither a file nor a folder")
        if len(files) + len(waiting) > max_files:
            raise _WrongError("too_large", f"more than {max_files} files in the outputs")
    return sorted(files)


def _way_is_plain(root: str, path: str) -> bool:
    """Whether the folders above `path` exist; raises when one of them was made a link."""
    parts = path.split("/")
    for depth in range(1, len(parts)):
        facts = _facts(root, "/".join(parts[:depth]))
        if facts is None:
            return False
        if not stat.S_ISDIR(facts.st_mode):
            raise _WrongError("wrong_shape", f"{path} does not lie in a plain folder")
    return True


def _facts(root: str, path: str) -> os.stat_result | None:
    try:
        check_path(path)
        return os.lstat(f"{root}/{path}")
    except FileNotFoundError:
        return None
    except (InvalidInput, OSError) as error:
        raise _WrongError("wrong_shape", f"an output cannot be read: {error}") from None


def _names(root: str, path: str) -> list[str]:
    try:
        return os.listdir(f"{root}/{path}")
    except OSError as error:
        raise _WrongError("wrong_shape", f"an output cannot be listed: {error}") from None
