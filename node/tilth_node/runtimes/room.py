"""Room on the node's disk for what a step left: the ledger lives there too.

What user code writes fits its own bounds, which may be more than the disk has left. A full disk
would stop the ledger, so outputs are not taken in below the floor that the vault keeps as well.
"""

import os
from pathlib import Path

from tilth_node.runtimes import NodeFault
from tilth_node.storage.vault import FLOOR_BYTES


def check_room(
    folder: Path, size: int, what: str = "what a step left", then: str = "the step is run again"
) -> None:
    """Raise NodeFault when `size` more bytes in `folder` would eat into the floor; `then` says
    what happens when there is room."""
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    if free - size < FLOOR_BYTES:
        raise NodeFault(
            f"no room for {what}",
            found=f"{free} bytes free, {size} wanted",
            expected=f"{FLOOR_BYTES} bytes kept free for the ledger",
            remedy=f"free some space on the node's disk: {then}",
        )
