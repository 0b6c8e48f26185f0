"""When to lose patience: deadlines of the current view, and of repeating oneself.

Invariants:
- Only differences of the monotonic clock count, in whole milliseconds.
- Delta grows by half per nullified view since the last finality, to at most 30 s.
- Nothing here can make a vote unsafe: a wrong guess costs a view, never agreement.

Left to others: whether there is work (replica), the timer itself (shell).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

MOST_DELTA_MS = 30_000
MOST_RETRY_MS = 10_000
SILENT_MS = 10_000
HASTY_ROUNDS = 4


@dataclass(slots=True)
class Pacemaker:
    """Clocks of one member."""

    me: int
    members: int
    q: int
    base_delta_ms: int
    view: int = 1
    entered_ms: int = 0
    nullified: int = 0
    work_since_ms: int | None = None
    stuck_since_ms: int | None = None
    attempt: int = 0
    _retry_ms: int = 0
    _last_step_ms: int = 0
    _silence_ms: list[int] = field(default_factory=list)
    _gone_since_ms: dict[int, int] = field(default_factory=dict)

    def start(self, now: int, view: int) -> None:
        self.view, self.entered_ms, self._last_step_ms = view, now, now
        self._silence_ms = [0] * self.members
        self._gone_since_ms = {m: now for m in range(self.members) if m != self.me}

    @property
    def delta_ms(self) -> int:
        delta = self.base_delta_ms
        for _ in range(self.nullified):
            delta = min(MOST_DELTA_MS, delta * 3 // 2)
            if delta == MOST_DELTA_MS:
                break
        return delta

    def enter(self, view: int, now: int) -> None:
        """A certificate ended the view before."""
        self.view, self.entered_ms = view, now
        self.progress(now)

    def finality(self, now: int) -> None:
        self.nullified = 0
        self.progress(now)

    def progress(self, now: int) -> None:
        """What I said last was not in vain: wait a full time before I repeat it."""
        self.attempt = 0
        if self.stuck_since_ms is not None:
            self.stuck_since_ms = now
            self._arm(now)

    def note_work(self, now: int, *, work: bool) -> None:
        """Whether there is work: only then does the view's patience run."""
        if not work:
            self.work_since_ms = None
        elif self.work_since_ms is None:
            self.work_since_ms = now

    def note_stuck(self, now: int, *, stuck: bool) -> None:
        """Whether there is anything to repeat."""
        if not stuck:
            self.stuck_since_ms = None
        elif self.stuck_since_ms is None:
            self.stuck_since_ms, self.attempt = now, 0
            self._arm(now)

    def elapse(self, now: int) -> None:
        """Count the time since the last step as silence of everyone, if work was open."""
        if self.work_since_ms is not None:
            passed = now - self._last_step_ms
            for member in range(self.members):
                if member != self.me:
                    self._silence_ms[member] = min(SILENT_MS, self._silence_ms[member] + passed)
        self._last_step_ms = now

    def heard(self, member: int) -> None:
        self._silence_ms[member] = 0

    def connected(self, member: int) -> None:
        self._gone_since_ms.pop(member, None)

    def gone(self, member: int, now: int) -> None:
        self._gone_since_ms.setdefault(member, now)

    def leader_ms(self, leader: int) -> int | None:
        """When to give up waiting for the leader's proposal; None without work."""
        if self.work_since_ms is None:
            return None
        start = max(self.entered_ms, self.work_since_ms)
        patient = start + 2 * self.delta_ms
        hint = self._vain_from_ms(leader)
        return patient if hint is None else min(patient, max(start, hint, self.haste_ms()))

    def haste_ms(self) -> int:
        """From when on a view may be given up that is known to be hopeless. Without this, members
        that refuse one another's blocks would run through views as fast as the network lets them,
        and every skipped view must be proven."""
        hasty = self.nullified < HASTY_ROUNDS * self.members
        return self.entered_ms if hasty else self.entered_ms + self.delta_ms

    def advance_ms(self) -> int | None:
        """When to give up waiting for the view's certificate; None without work."""
        if self.work_since_ms is None:
            return None
        return max(self.entered_ms, self.work_since_ms) + 3 * self.delta_ms

    @property
    def retry_ms(self) -> int | None:
        """When to repeat myself; None when there is nothing to repeat."""
        return None if self.stuck_since_ms is None else self._retry_ms

    def retried(self, now: int) -> None:
        self.attempt += 1
        self._arm(now)

    def _arm(self, now: int) -> None:
        wait = 2 * self.delta_ms
        for _ in range(min(self.attempt, 32)):
            wait = min(MOST_RETRY_MS, wait * 3 // 2)
        wait = min(MOST_RETRY_MS, wait)
        self._retry_ms = now + wait + wait * self._jitter() // 1024

    def _jitter(self) -> int:
        """0 to 255: differs between members, so that they do not all speak at once."""
        text = b"%d %d %d" % (self.me, self.view, self.attempt)
        return hashlib.sha256(text).digest()[0]

    def _vain_from_ms(self, leader: int) -> int | None:
        """From when on waiting for a leader is vain: nothing was heard of it during 10 s of open
        work, or it has been without a connection for a Delta, while a quorum is there."""
        if leader == self.me:
            return None
        heard = sum(silence < SILENT_MS for silence in self._silence_ms)
        if self._silence_ms[leader] >= SILENT_MS and heard >= self.q:
            return 0
        since = self._gone_since_ms.get(leader)
        here = self.members - len(self._gone_since_ms)
        return since + self.base_delta_ms if since is not None and here >= self.q else None
