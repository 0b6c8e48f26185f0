"""How long the command and the package take to start: medians of fresh processes."""

import statistics
import subprocess
import sys
import time
from pathlib import Path

RUNS = 15
TILTH = Path(sys.executable).with_name("tilth")


def seconds(command):
    """Wall time of one fresh process."""
    begun = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - begun


def median(command):
    """The median of many, after one that fills the caches."""
    seconds(command)
    return statistics.median(seconds(command) for _ in range(RUNS))


def main():
    """Yields one figure per bar; `against` is an empty Python process."""
    empty = median([sys.executable, "-c", "pass"])
    measured = {
        "tilth --version": (median([str(TILTH), "--version"]), 0.3),
        "import tilth": (median([sys.executable, "-c", "import tilth"]), 0.25),
        "import tilth, connect": (
            median([sys.executable, "-c", "import tilth; tilth.connect"]),
            None,
        ),
    }
    for figure, (value, bar) in measured.items():
        yield {
            "figure": figure,
            "value": round(value, 4),
            "unit": "s",
            "bar": bar,
            "holds": bar is None or value <= bar,
            "against": round(empty, 4),
            "ratio": round(value / empty, 2),
        }
