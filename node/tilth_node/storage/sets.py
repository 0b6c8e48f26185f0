"""Sample sets as tasks see them: one read-only tree per set, built once, never copied per task.

Invariants
- `data/<sample>/` holds exactly the registered files, as hard links where the disk allows, else
  as copies whose digest was checked while copying.
- `features/<sample>/` holds the same without the target files: what a prediction may see. A
  file counts as target when its path or its name matches a glob, so a glob can only hide more.
- A tree appears under its final name only when it is whole; a crash leaves a `.part` folder,
  which the next build replaces.

Leaves to others: which samples a set has (the ledger), checks of rule D2
(`tilth_node.storage.samples`).
"""

import fnmatch
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from tilth_ledger.errors import InvalidInput
from tilth_node.storage import walk
from tilth_node.storage.samples import DataChanged, Sample
from tilth_node.storage.walk import Listed, Seen


class Sets:
    """Trees under `root`, one folder per sample set key."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)

    def data(self, key: str, samples: Iterable[Sample]) -> Path:
        """The tree with all files of the set's samples."""
        return self._tree(key, "data", samples, ())

    def features(self, key: str, samples: Iterable[Sample], targets: tuple[str, ...]) -> Path:
        """The tree without the files that `targets` (globs) name."""
        return self._tree(key, "features", samples, targets)

    def drop(self, key: str) -> None:
        """Remove a set's trees; the samples stay."""
        remove_tree(self._root / sample_name(key))

    def _tree(
        self, key: str, kind: str, samples: Iterable[Sample], targets: tuple[str, ...]
    ) -> Path:
        tree = self._root / sample_name(key) / kind
        if not tree.is_dir():
            part = tree.with_suffix(".part")
            remove_tree(part)
            part.mkdir(parents=True)
            for sample in samples:
                build_sample(part / sample_name(sample.key), sample, targets)
            part.chmod(0o555)
            # A crash here leaves a whole `.part` tree; it is built again.
            part.rename(tree)
        return tree


def sample_name(key: str) -> str:
    """The folder of `<organization>/<id>`: its id, which is unique on this node."""
    return key.rpartition("/")[2]


def is_target(path: str, targets: Iterable[str]) -> bool:
    """Whether a glob names this file by its path in the sample or by its own name."""
    name = path.rpartition("/")[2]
    return any(
        fnmatch.fnmatchcase(path, glob) or fnmatch.fnmatchcase(name, glob) for glob in targets
    )


def build_sample(folder: Path, sample: Sample, targets: tuple[str, ...]) -> None:
    """Fill one sample's folder, leaving target files out."""
    folder.mkdir()
    kept = [seen for seen in sample.files if not is_target(seen.entry.path, targets)]
    if targets and len(kept) == len(sample.files):
        raise InvalidInput(
            f"sample {sample.key} ({sample.name}) has no target file, so its labels cannot be kept "
            "apart from what is predicted from",
            found=f"{len(kept)} files",
            expected=f"a file named by {', '.join(targets)}",
            remedy="correct the dataset's targets, or leave them out and let its opener export",
        )
    for seen in kept:
        target = folder / seen.entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        _place(sample, seen, target)
    for inner in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        inner.chmod(0o555)


def _place(sample: Sample, seen: Seen, target: Path) -> None:
    """Hard link one file, or copy it when that is impossible or the copy alone can be read."""
    source = sample.root / seen.entry.path
    try:
        # User code runs as nobody: a file that only its owner reads must not be linked as it is.
        if os.geteuid() != 0 or os.lstat(source).st_mode & 0o004:
            os.link(source, target, follow_symlinks=False)
            return
    except FileNotFoundError as error:
        raise DataChanged(
            f"sample {sample.key} ({sample.name}) lacks a file", found=seen.entry.path
        ) from error
    except OSError:
        pass  # another device, or a file system without hard links
    _copy(sample, seen, target)


def _copy(sample: Sample, seen: Seen, target: Path) -> None:
    entry = seen.entry
    item = Listed(entry.path, entry.size, seen.mtime_ns, seen.inode, entry.executable)
    with target.open("xb") as file:
        copied = walk.hash_file(sample.root, item, copy=file.write)
    if copied.entry.digest != entry.digest:
        raise DataChanged(
            f"sample {sample.key} ({sample.name}) is not what was registered",
            found=f"{entry.path}: {copied.entry.digest}",
            expected=entry.digest,
        )
    target.chmod(0o555 if entry.executable else 0o444)


def remove_tree(folder: Path) -> None:
    """Remove a tree whose folders are read-only."""
    if folder.is_dir():
        for inner in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
            inner.chmod(0o755)
        shutil.rmtree(folder)
