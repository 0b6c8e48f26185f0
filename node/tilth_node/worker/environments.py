"""From the row of an environment to what a runtime must offer.

A lock or a Dockerfile is a blob that the row names by digest; one that is not here makes the
environment impossible, which is said before anything runs.
"""

from collections.abc import Sequence

from tilth_ledger import archive
from tilth_ledger.errors import InvalidInput
from tilth_ledger.rows import Row
from tilth_node.runtimes import Environment, EnvironmentMissing, Shipped
from tilth_node.storage.vault import Shelf


def environment_of(row: Row, vault: Shelf, images: tuple[Shipped, ...] = ()) -> Environment:
    """What the row asks for, and the images of it that are offered.

    Raises EnvironmentMissing when a file of it is not on this node."""
    spec = row["spec"]
    dockerfile, lock = spec.get("dockerfile"), spec.get("lock")
    files = _files(_load(vault, dockerfile, "Dockerfile")) if dockerfile else ()
    return Environment(
        digest=row["digest"],
        requirements=tuple(spec["requirements"]),
        base=spec.get("base", ""),
        lock=_load(vault, lock, "lock") if lock else b"",
        files={file.path: file.data for file in files},
        images=images,
    )


def blobs_of(row: Row) -> set[str]:
    """Digests of the files that an environment is built from."""
    return {row["spec"][name] for name in ("dockerfile", "lock") if name in row["spec"]}


def _files(packed: bytes) -> Sequence[archive.ArchiveFile]:
    """A Dockerfile and what lies beside it."""
    try:
        files = archive.read(packed)
    except InvalidInput as error:
        raise EnvironmentMissing(
            f"the Dockerfile of an environment did not come as an archive: {error}",
            remedy="register the environment again with the SDK, from a folder",
        ) from error
    if "Dockerfile" not in {file.path for file in files}:
        raise EnvironmentMissing(
            "the archive of an environment holds no Dockerfile",
            found=", ".join(file.path for file in files)[:200],
            expected="a file named Dockerfile",
            remedy="register the environment again with the SDK, from a folder",
        )
    return files


def _load(vault: Shelf, digest: str, what: str) -> bytes:
    if not vault.has(digest):
        raise EnvironmentMissing(
            f"the {what} of an environment is not on this node",
            found=f"no blob {digest}",
            remedy="upload it to this node with the SDK, then retry the task",
        )
    return vault.load(digest)
