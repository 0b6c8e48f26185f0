"""What somebody who waits for the ledger is told: for whom it waits, and what to do.

- While enough members are there nothing is said for ten seconds; without them after one and a half.
- The node is asked once or twice in a wait, never again and again; the same words come at most once
  a minute, however many threads wait.
- Words go through `warnings`, so they come on standard error, and a script may silence or catch
  them (`Waiting`); the command line prints them as they are.

Left to others: the wire (transport.py), who is there (quorum.py).
"""

import time
import warnings
from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Lock
from typing import Any

from tilth.errors import Unknown
from tilth.quorum import Facts, found, lacks_quorum, members
from tilth_ledger.errors import TilthError

FIRST_SECONDS = 1.5  # a person looks up; what is well is final long before
LATER_SECONDS = 8.5  # on top, while nothing is wrong that a node knows of
AGAIN_SECONDS = 60.0  # before the same words come once more


class Waiting(UserWarning):
    """A call waits for members of the consortium, and goes on when they are there."""


class Patience:
    """Attends the waits of one connection. Safe for use from many threads."""

    def __init__(self, status: Callable[[], Facts]) -> None:
        self._status = status
        self._said: tuple[str, float] = ("", 0.0)
        self._lock = Lock()

    def attend(self, done: Callable[[float], bool], until: float | None = None) -> None:
        """Returns when `done(seconds)` is true, which waits so long at most, or when all was said.
        `until`: when an entry that is waited for can no longer be recorded (seconds since 1970)."""
        if done(FIRST_SECONDS) or self._say(until, late=False):
            return
        if not done(LATER_SECONDS):
            self._say(until, late=True)

    def explained(self, error: Unknown) -> Unknown:
        """The error of a wait that came to nothing, with who was missing."""
        try:
            status = self._status()
        except TilthError:
            return error
        if not lacks_quorum(status):
            return error
        return Unknown(
            "nothing new becomes final while too few members are there; what was asked may"
            " still be recorded when they come back",
            found=found(status),
            expected=f"{status['quorum']} of {len(members(status))} members",
            remedy="Start the missing nodes (at each: tilth node status FOLDER). Then look whether"
            " it was recorded, before you ask again: tilth ledger list. If they are gone for good:"
            " tilth ledger rebase --help",
        )

    def _say(self, until: float | None, *, late: bool) -> bool:
        """Tells the reason, if there is one to tell by now."""
        try:
            status = self._status()
        except TilthError as error:
            words = f"waiting: {error.message}. Ctrl-C ends the waiting"
        else:
            if not (late or lacks_quorum(status) or status["halted"]):
                return False
            words = _words(status, until)
        with self._lock:
            said, when = self._said
            now = time.monotonic()
            if words == said and now < when + AGAIN_SECONDS:
                return True
            self._said = words, now
        # Not `warn`: it would say the same words once in a process only.
        warnings.warn_explicit(words, Waiting, "tilth", 0)
        return True


def _words(status: Facts, until: float | None) -> str:
    words = f"waiting: {found(status)}"
    if not status["halted"]:
        words += f", {status['quorum']} must vote"
    if until is None:
        return words + ". Ctrl-C ends the waiting"
    last = time.strftime("%H:%M", time.gmtime(until))
    return (
        f"{words}. {status['organization']} keeps the entry, and it is sent again for a minute."
        f" Ctrl-C ends the waiting only: it may be recorded until {last} UTC"
    )


class Awaited(Future[Any]):
    """The receipt of an entry; `result` without a timeout tells what it waits for."""

    def __init__(self, patience: Patience, life_seconds: float) -> None:
        super().__init__()
        self._patience = patience
        self._until = time.time() + life_seconds

    def result(self, timeout: float | None = None) -> Any:
        if timeout is not None:
            return super().result(timeout)
        self._patience.attend(lambda seconds: bool(wait([self], seconds).done), self._until)
        try:
            return super().result()
        except Unknown as error:
            raise self._patience.explained(error) from None
