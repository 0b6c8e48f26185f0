"""`make bench NAME=x`: runs tests/benchmarks/x.py and prints its figures, one JSON line each.

A benchmark module has a function `main()` that yields figures with some of FIELDS; what it leaves
out is printed as null. A dash in a name stands for an underscore. The exit code is 1 when a bar
does not hold.
"""

import importlib
import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
FIELDS = ("figure", "value", "unit", "bar", "holds", "against", "ratio")


def names():
    """Benchmarks that exist."""
    return sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_"))


def main(name):
    """Runs one benchmark; returns the exit code."""
    name = name.replace("-", "_")
    if name not in names():
        print(f"There is no benchmark {name!r}; there are {', '.join(names())}.", file=sys.stderr)
        return 2
    held = True
    for figure in importlib.import_module(f"tests.benchmarks.{name}").main():
        print(json.dumps({**dict.fromkeys(FIELDS), **figure}), flush=True)
        held = held and figure.get("holds") is not False
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))
