"""Taking data in: files under a declared data root become samples that the ledger can name.

Invariants
- Only what lies under a data root of the operator is read, whatever links the path goes through.
- A sample is one file or one folder; it keeps its bytes, in a read-only store or in place.
- Every byte is hashed on the way in (rule D2). The ledger learns a salted commitment and a
  duplicate tag, never a name or a digest (rules D3, D4).
- The same bytes never become train and test (rule D4): refused here with both names, and by the
  ledger if this node forgot.

Leaves to others: who may import (`tilth_node.rpc.data`), the registration, which the owner signs.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tilth_ledger.errors import InvalidInput, Refused
from tilth_ledger.rows import Rows
from tilth_ledger.tree import tree_digest
from tilth_node.clock import Clock
from tilth_node.folder import sync_folder
from tilth_node.storage import walk
from tilth_node.storage.samples import SALT_BYTES, Sample, Samples, duplicate_tag
from tilth_node.storage.sets import is_target, remove_tree
from tilth_node.storage.vault import Vault
from tilth_node.storage.walk import Listed, Seen

LABELS = ("train", "test", "none")
MAX_SAMPLES = 100_000  # of one import


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an import is; bytes as read."""

    samples: int
    samples_total: int
    bytes: int
    bytes_total: int


@dataclass(frozen=True, slots=True)
class Request:
    """What to take in. `targets` are the dataset's globs for files that hold labels."""

    label: str
    path: Path
    in_place: bool
    targets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Imported:
    """A sample of this node; `known`: its bytes were taken in before."""

    sample: Sample
    known: bool


@dataclass(frozen=True, slots=True)
class _Found:
    """A sample before it is read: `place` is its file or folder."""

    place: Path
    files: tuple[Listed, ...]

    @property
    def single(self) -> bool:
        return len(self.files) == 1 and self.files[0].path == self.place.name

    @property
    def root(self) -> Path:
        return self.place.parent if self.place.is_file() else self.place

    @property
    def bytes(self) -> int:
        return sum(item.size for item in self.files)


class Importer:
    """Imports into `store` (a folder of this node) what lies under `roots`."""

    def __init__(
        self,
        organization: str,
        roots: tuple[Path, ...],
        store: Path,
        samples: Samples,
        vault: Vault,
        clock: Clock,
    ) -> None:
        self._organization, self._roots, self._store = organization, roots, store
        self._samples, self._vault, self._clock = samples, vault, clock
        self._secret = samples.secret(clock.random(32))
        store.mkdir(parents=True, exist_ok=True)
        for left in store.glob("*.part"):  # of an import that a crash cut short
            remove_tree(left)

    def read(self, request: Request, tell: Callable[[Progress], None]) -> list[Sample]:
        """Find, hash and copy the samples; blocks, and touches no table: call it in a thread."""
        if request.label not in LABELS:
            raise InvalidInput(
                "no such label",
                found=repr(request.label),
                expected=", ".join(LABELS),
                remedy="Use one of these labels.",
            )
        found = _find(inside(request.path, self._roots))
        for each in found:
            _check_targets(each, request)
        total = sum(each.bytes for each in found)
        if not request.in_place:
            self._vault.check_space(total)
        samples: list[Sample] = []
        done = 0
        for each in found:
            tell(Progress(len(samples), len(found), done, total))
            samples.append(self._take(each, request))
            done += each.bytes
        tell(Progress(len(samples), len(found), done, total))
        return samples

    def record(self, read: list[Sample], rows: Rows) -> list[Imported]:
        """Keep what was read; samples with known bytes are answered as they were.

        Raises Refused (D4) when the same bytes stand twice or under another label."""
        try:
            imported = self._compare(read, rows)
        except Refused:
            self._drop_copies(read)
            raise
        self._drop_copies([s for s, i in zip(read, imported, strict=True) if i.known])
        self._samples.add([each.sample for each in imported if not each.known])
        return imported

    def _compare(self, read: list[Sample], rows: Rows) -> list[Imported]:
        tags: dict[str, Sample] = {}
        imported: list[Imported] = []
        for sample in read:
            twin = tags.setdefault(sample.tag, sample)
            if twin is not sample:
                raise _duplicate(f"{sample.name!r} and {twin.name!r} hold the same bytes", sample)
            before = self._samples.with_tag(sample.tag)
            other_label = before is not None and before.label != sample.label
            if before and other_label and rows.get(f"sample/{before.key}") is None:
                # The ledger never heard of it, so nothing stands against another label.
                self._samples.forget(before.key)
                before = None
            if before and other_label:
                raise _duplicate(
                    f"{sample.name!r} holds the same bytes as {before.name!r}, which is "
                    f"{before.label} data",
                    sample,
                )
            imported.append(Imported(before or sample, known=before is not None))
        return imported

    def _take(self, found: _Found, request: Request) -> Sample:
        key = f"{self._organization}/{self._clock.random(16).hex()}"
        if request.in_place:
            root = found.root
            files = tuple(walk.hash_file(root, item) for item in found.files)
        else:
            root = self._store / key.rpartition("/")[2]
            files = _copy(found, root)
        return Sample(
            key=key,
            name=found.place.name,
            label=request.label,
            root=root,
            single=request.in_place and found.single,
            in_place=request.in_place,
            digest=tree_digest(seen.entry for seen in files),
            tag=duplicate_tag(self._secret, files),
            salt=self._clock.random(SALT_BYTES),
            files=files,
        )

    def _drop_copies(self, samples: list[Sample]) -> None:
        for sample in samples:
            if not sample.in_place:
                remove_tree(sample.root)


def inside(path: Path, roots: tuple[Path, ...]) -> Path:
    """The real path behind `path`; raises InvalidInput unless it lies under a data root."""
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:  # the last: a path with a zero byte
        raise InvalidInput(
            "there are no such data on the node", found=str(path), remedy="check the path"
        ) from error
    if not path.is_absolute() or not any(real.is_relative_to(root.resolve()) for root in roots):
        declared = ", ".join(map(str, roots)) or "none is declared"
        raise InvalidInput(
            "this path is not under a data root of the node",
            found=str(path),
            expected=f"an absolute path under one of: {declared}",
            remedy="move the data there, or declare the folder under [data] roots in node.toml",
        )
    return real


def _find(path: Path) -> list[_Found]:
    """Each file or folder in `path` is one sample; a file by itself is one too."""
    places = [path] if path.is_file() else sorted(p for p in path.iterdir() if p.name[0] != ".")
    if not places:
        raise InvalidInput(
            "no data here",
            found=f"{path} is empty",
            expected="a file or a folder for each sample",
            remedy="Put one file or folder for each sample there, or name another path.",
        )
    if len(places) > MAX_SAMPLES:
        raise InvalidInput(
            "too many samples at once",
            found=len(places),
            expected=f"at most {MAX_SAMPLES}",
            remedy="Import them in several goes, from several folders.",
        )
    found = [_Found(place, tuple(walk.listing(place))) for place in places]
    for each in found:
        if not each.files:
            raise InvalidInput(
                f"sample {each.place.name!r} is an empty folder",
                remedy="Remove it, or put the sample's files into it.",
            )
    return found


def _check_targets(found: _Found, request: Request) -> None:
    """With target globs every labelled sample needs a target file: else sealing its labels
    would mean nothing, and that must not be found out in the middle of a test."""
    targets = [item.path for item in found.files if is_target(item.path, request.targets)]
    if request.targets and request.label != "none" and not targets:
        raise InvalidInput(
            f"sample {found.place.name!r} has no target file",
            found=", ".join(item.path for item in found.files[:5]),
            expected=f"a file named by {', '.join(request.targets)}",
            remedy="add the labels, or correct the dataset's targets",
        )


def _copy(found: _Found, root: Path) -> tuple[Seen, ...]:
    """Copy a sample into the read-only store, hashing what is written."""
    part = root.with_suffix(".part")
    part.mkdir()
    files = []
    for item in found.files:
        target = part / item.path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as copy:
            seen = walk.hash_file(found.root, item, copy=copy.write)
            copy.flush()
            os.fchmod(copy.fileno(), 0o555 if item.executable else 0o444)
            os.fdatasync(copy.fileno())
            status = os.fstat(copy.fileno())
        files.append(Seen(seen.entry, status.st_mtime_ns, status.st_ino))
    part.rename(root)
    # A crash from here on leaves a copy that no table names; the next import makes another.
    sync_folder(root.parent)
    return tuple(files)


def _duplicate(what: str, sample: Sample) -> Refused:
    return Refused(
        "D4",
        what,
        found=f"tag {sample.tag}",
        expected="every sample's bytes once, as train or as test",
        remedy="remove one of the two; a test on data that was trained on proves nothing",
    )
