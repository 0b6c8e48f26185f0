"""How much of a node's time and memory HTTP may take, in one place, and the purse that holds it.

Serving strangers must never slow finality: what requests cost is measured in time of the node's
loop and paid from a budget that fills up again. When it is empty, requests are answered 429.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Bounds of one listener."""

    connections: int = 128
    connections_of_one_address: int = 32
    head_bytes: int = 16 << 10  # of a request: its line and headers
    head_seconds: float = 15.0  # until a request is complete, idle time included
    send_seconds: float = 60.0  # until a client has taken an answer
    requests_of_one_connection: int = 1_000
    budget_ms_per_second: float = 200.0  # of the loop's time
    burst_ms: float = 2_000.0
    least_cost_ms: float = 0.2  # of a request that cost nothing to answer


class Purse:
    """The budget of a listener: full at first, spent by requests, filled by time."""

    def __init__(self, limits: HttpLimits) -> None:
        self._limits = limits
        self._left_ms = limits.burst_ms
        self._at = 0.0

    def open(self, now: float) -> bool:
        """Whether a request may be served at this time (seconds, monotonic)."""
        earned = max(0.0, now - self._at) * self._limits.budget_ms_per_second
        self._left_ms = min(self._limits.burst_ms, self._left_ms + earned)
        self._at = now
        return self._left_ms > 0

    def spend(self, seconds: float) -> None:
        """Pay for a request that took so long."""
        self._left_ms -= max(1000 * seconds, self._limits.least_cost_ms)
