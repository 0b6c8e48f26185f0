"""What a node says beside each of its answers while its ledger as a whole is in trouble."""

import warnings
from collections.abc import Iterable
from typing import Any

BANNER_METADATA = "tilth-banner-bin"


class NodeWarning(UserWarning):
    """What is wrong with a node's ledger as a whole, although it answers."""


def warn(metadata: Iterable[tuple[str, Any]]) -> None:
    """Warns with the banner in an answer's initial metadata, if there is one."""
    for name, value in metadata or ():
        if name == BANNER_METADATA:
            warnings.warn(bytes(value).decode("utf-8", "replace"), NodeWarning, stacklevel=2)
