"""One step behind the last walls, in the process that a container's first process forked for it.

The process gives up writing anywhere but in the step's own folders and signalling anything outside
the step, takes its limits, runs the step, and ends; it never returns into the code that forked it.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from tilth.algorithm import confine, runner


def become(log: int, limits: Mapping[str, int], root: Path) -> NoReturn:
    """Run the step below `root`; `log` is where it writes, `limits` as `confine.limit` wants."""
    code = 1
    try:
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.closerange(3, 1 << 20)
        os.setsid()
        confine.hide_memory(False)
        confine.limit(limits)
        confine.landlock()
        code = runner.run(root) & 0xFF
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)
