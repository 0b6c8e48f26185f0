"""`make test` runs this: every check and every test, three phases beside each other.

    python -m tests                    # checks, container tests, all other tests
    python -m tests tests/sdk -k plan  # the checks, and these tests without an engine

Most tests wait, for disks, processes and containers, far more than they compute: those with real
nodes keep a fifth of a core busy. So there are more workers than cores, and the container tests,
which wait most, do not keep the others waiting.

Invariants
- What one phase finds hides nothing of another; the exit code is 1 when any found something.
- The largest phase is shown while it runs, the others afterwards and whole; each ends with a line
  that says what it took, so that growth is seen.
- An interrupt ends every phase as it ends a test run: with what the fixtures have to clear away.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from threading import Thread

PYTEST = (sys.executable, "-m", "pytest", "--dist=loadfile", "--no-loadscope-reorder")
WORKERS = min((os.cpu_count() or 1) + 4, 10)
ENGINES = 2


class Phase:
    """One command that runs, and what became of it; `said` keeps what is not shown at once."""

    def __init__(self, name, command, said=None):
        self.name, self.said = name, said
        self._begun = time.monotonic()
        self.process = subprocess.Popen(command, stdout=said, stderr=said and subprocess.STDOUT)
        self._waiting = Thread(target=self._wait)
        self._waiting.start()

    def _wait(self):
        self.process.wait()
        self._seconds = time.monotonic() - self._begun

    def end(self):
        """Wait for its end; whether it found nothing."""
        self._waiting.join()
        if self.said is not None:
            self.said.seek(0)
            print(f"\n-- {self.name}\n{self.said.read().decode(errors='replace')}")
        return self.process.returncode == 0

    def __str__(self):
        code = self.process.returncode
        return f"{self.name}: {self._seconds:.0f} s, {f'FAILED, exit {code}' if code else 'ok'}"


def commands(words):
    """What runs, by name; the last is shown while it does."""
    found = {"checks": ("make", "--no-print-directory", "check")}
    if not words:
        found["container tests"] = (*PYTEST, f"-n{ENGINES}", "-m", "docker", "tests/end_to_end")
    return found | {"tests": (*PYTEST, f"-n{WORKERS}", "-m", "not docker", *words)}


def main(words):
    """Runs all; returns the exit code."""
    phases = []
    # From a terminal the phases are interrupted too; they end, and then this does.
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(
        signal.SIGTERM, lambda *_: [each.process.send_signal(signal.SIGINT) for each in phases]
    )
    with ExitStack() as stack:
        chosen = commands(words)
        for name, command in chosen.items():
            hidden = name != list(chosen)[-1]
            said = stack.enter_context(tempfile.TemporaryFile()) if hidden else None
            phases.append(Phase(name, command, said))
        held = [each.end() for each in reversed(phases)]
    print(*phases, sep="\n", flush=True)
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
