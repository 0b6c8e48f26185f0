"""What became of a step in a container: from the engine's and pid 1's words to a reason.

Invariant: out of memory is decided on both signs. The engine's alone is also set when only a child
was killed and the step ended well; a kill alone may have been anybody's.
"""

from collections.abc import Mapping
from typing import Any

from tilth_ledger.steps import EXIT_CODES, Reason
from tilth_node.runtimes import NodeFault

_KILLED = -9
_OF_SHELL = 128  # an engine says 137 where a process says -9
_SIGNALS = {-24: Reason.TIME, -25: Reason.TOO_LARGE}


def reason_of(end: Mapping[str, Any], oom: bool, cpu_limit_ms: int) -> Reason | None:
    """Why a step that pid 1 saw to its end failed; None when it succeeded."""
    if named := end.get("reason"):
        return Reason(named)
    status = int(end["status"])
    if status == 0:
        return None
    if status == _KILLED:
        if int(end.get("cpu_ms", 0)) >= cpu_limit_ms:
            return Reason.TIME  # it ignored the signal that came a second before
        return Reason.OUT_OF_MEMORY if oom else Reason.EXIT
    codes = {code: reason for reason, code in EXIT_CODES.items()}
    found = _SIGNALS.get(status) or codes.get(status, Reason.EXIT)
    return Reason.OUT_OF_MEMORY if oom and found is Reason.EXIT else found


def without_end(state: Mapping[str, Any], last_words: str) -> Reason:
    """Pid 1 ended without a word: memory, or this machine's trouble (NodeFault)."""
    code = int(state.get("ExitCode", 0))
    if code == _OF_SHELL - _KILLED and state.get("OOMKilled"):
        return Reason.OUT_OF_MEMORY
    raise NodeFault(
        "a container ended without an answer",
        found=f"exit code {code} {state.get('Error') or last_words or 'no words'}".strip(),
        remedy="run `tilth node doctor` to see what this engine allows; the step runs again",
    )
