"""Fuzz one decoder, or each in turn, guided by coverage; needs atheris (pip install atheris).

    python tests/fuzz/run.py --seconds 60                    # all
    python tests/fuzz/run.py --seconds 600 --only message
    python tests/fuzz/run.py --only note --input crash-...   # what a finding did, once more

Every decoder has a process of its own: coverage, and the memory that it may take, are its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / name) for name in ("fuzz", "ledger", "node", "simulation")]


def fuzz(name: str, seconds: int, given: str) -> None:
    """Run in this process; it does not return."""
    import atheris

    with atheris.instrument_imports(include=["tilth_ledger", "tilth.verifier", "tilth_node"]):
        from decoders import DECODERS
    decoder = next(d for d in DECODERS if d.name == name)

    def once(data: bytes) -> None:
        decoder.attempt(data)

    with tempfile.TemporaryDirectory() as corpus:
        for number, example in enumerate(decoder.examples):
            Path(corpus, str(number)).write_bytes(example)
        options = [f"-max_total_time={seconds}", "-max_len=20000", "-rss_limit_mb=2048"]
        options += ["-timeout=10", "-verbosity=1", f"-artifact_prefix={name.replace(' ', '-')}-"]
        atheris.Setup([sys.argv[0], *options, given or corpus], once)
        atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=int, default=60, help="for each decoder")
    parser.add_argument("--only", default="", help="the name of one decoder")
    parser.add_argument("--input", default="", help="a file with bytes to try once")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        fuzz(arguments.only, arguments.seconds, arguments.input)
        return 0
    from decoders import DECODERS

    failed = []
    for decoder in DECODERS:
        if arguments.only not in ("", decoder.name):
            continue
        command = [sys.executable, __file__, "--here", "--only", decoder.name]
        command += ["--seconds", str(arguments.seconds), "--input", arguments.input]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        said = [line for line in ended.stderr.splitlines() if line.startswith(("Done", "#", "==="))]
        print(f"{decoder.name}: {said[-1] if said else ended.stderr[-300:]}", flush=True)
        if ended.returncode:
            failed.append(decoder.name)
            print(ended.stdout[-3000:], ended.stderr[-3000:], sep="\n", flush=True)
    print(f"failed: {', '.join(failed)}" if failed else "nothing found")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
