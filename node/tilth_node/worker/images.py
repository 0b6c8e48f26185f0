"""Images that organizations offer: which there are of an environment, and their files while needed.

- A statement (`image.add`) that was withdrawn offers nothing any more.
- A file is fetched like any blob: by right (P6), resumed, checked, within its stated size and the
  disk's floor. Once an engine has the image the file goes, unless this organization offers it.

Leaves to others: whether one is believed (`tilth_node.runtimes.images`).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tilth_ledger.errors import Refused
from tilth_ledger.rows import Rows
from tilth_node.runtimes import EnvironmentMissing, NodeFault, Shipped
from tilth_node.storage.vault import Vault
from tilth_node.worker.blobs import Blobs
from tilth_node.worker.holders import namings, wanted


def offered(rows: Rows, environment: str) -> tuple[Shipped, ...]:
    """The images of an environment (by its digest) that are stated now, by key."""
    prefix = f"image-of/{environment}/"
    keys = [key.removeprefix(prefix) for key, _ in rows.scan(prefix)]
    found = [rows.get(f"image/{key}") or {"status": ""} for key in keys]
    return tuple(
        Shipped(row["owner"], row["image"], row["file"]["digest"], row["file"]["size"])
        for row in found
        if row["status"] == "active"
    )


class ImageFiles:
    """The files of offered images, as one node's runtime asks for them."""

    def __init__(self, organization: str, rows: Rows, vault: Vault, blobs: Blobs) -> None:
        self._organization, self._rows = organization, rows
        self._vault, self._blobs = vault, blobs

    @asynccontextmanager
    async def __call__(self, image: Shipped) -> AsyncIterator[Path]:
        """The file, in the vault. Raises EnvironmentMissing when it is refused, Unavailable when
        it cannot be had now."""
        try:
            await self._blobs.ensure(wanted(self._rows, image.file, image.size))
        except Refused as error:
            raise EnvironmentMissing(
                f"{image.organization} offers an image and does not serve it to this node",
                found=str(error),
                expected=f"the file {image.file}",
                remedy=f"{image.organization} names this organization in the image's grants",
            ) from error
        try:
            yield self._vault.path(image.file)
        except NodeFault:
            raise  # it is tried again, and the file need not come again
        except BaseException:
            self._drop(image.file)
            raise
        self._drop(image.file)

    def _drop(self, digest: str) -> None:
        namers = {asset.partition("/")[0] for _, asset, _ in namings(self._rows, digest)}
        if self._organization not in namers:
            self._vault.remove(digest)
