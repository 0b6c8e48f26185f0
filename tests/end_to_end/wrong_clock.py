"""A process whose clock is wrong, by as much as a test says and for as long.

The clock is the system's own: libfaketime (Debian's package of that name) is loaded before the
node's process and reads from a file by how much wall time is off, so that TLS, the interpreter and
every library see it. The monotonic clock is left alone, as it is on a machine whose time is set; a
time namespace would move that one, and not the wall's.
"""

from collections.abc import Mapping
from pathlib import Path

from lacking import lacks

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))


class WrongClock:
    """How far a process's clock is off."""

    def __init__(self, file: Path) -> None:
        if not LIBRARIES:
            lacks("setting a process's clock wrong needs libfaketime")
        self._file = file
        self.set("+0")

    def set(self, offset: str) -> None:
        """Such as `+400d`, `-40h`, `+5` seconds."""
        draft = self._file.with_suffix(".new")
        draft.write_text(offset)
        draft.rename(self._file)

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
