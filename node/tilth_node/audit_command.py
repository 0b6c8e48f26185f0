"""`tilth audit FOLDER`: the command, its line of progress, and the report for people.

Exit codes: 0 clean, 1 findings, 2 nothing that can be read, or not to the end. Nothing heavy is
imported before it runs. Left to others: the audit (auditing).
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tilth_ledger.findings import Counts, Report

SHOWN_EVERY_S = 0.2
WORDS = "verify a whole ledger again, offline"


def register(subparsers: Any) -> None:
    """Add `audit` to the command line."""
    parser = subparsers.add_parser(
        "audit",
        help=WORDS,
        description=f"{WORDS}: every signature, rule, root, certificate and row, from genesis on",
        epilog="Exit codes: 0 clean, 1 findings, 2 nothing that can be read, or not to the end.",
    )
    parser.add_argument("folder", type=Path, help="of a node, running or not, or a copy of it")
    parser.add_argument("--hash", help="refuse any genesis but the one with this SHA-256")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_audit)


def _audit(arguments: argparse.Namespace) -> int:
    from tilth_ledger.errors import InvalidInput, TilthError
    from tilth_node import auditing

    line = Line() if sys.stderr.isatty() and not arguments.json else None
    begun = time.monotonic()
    try:
        report = auditing.audit(arguments.folder, arguments.hash, line)
    except (TilthError, OSError) as error:
        known = error if isinstance(error, TilthError) else InvalidInput(str(error))
        if arguments.json:
            _say(json.dumps({"error": known.as_dict()}))
        else:
            sys.stderr.write(f"tilth: cannot audit: {known}\n")
        return 2
    finally:
        if line is not None:
            line.clear()
    seconds = time.monotonic() - begun
    facts = report.as_dict() | {"seconds": round(seconds, 2)}
    _say(json.dumps(facts) if arguments.json else "\n".join(lines(report, seconds)))
    return 0 if report.clean else 1


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class Line:
    """One line on a terminal that is written again and again."""

    def __init__(self) -> None:
        self._begun = self._shown = time.monotonic()

    def __call__(self, counts: "Counts", height: int) -> None:
        now = time.monotonic()
        if now - self._shown < SHOWN_EVERY_S:
            return
        self._shown = now
        rate = counts.operations / (now - self._begun)
        text = (
            f"block {counts.blocks:,} of {height:,}, {counts.leaves:,} entries,"
            f" {counts.operations:,} operations, {rate:,.0f}/s"
        )
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()

    def clear(self) -> None:
        """Leave the terminal as it was."""
        sys.stderr.write("\r\033[K")
        sys.stderr.flush()


def lines(report: "Report", seconds: float) -> Iterator[str]:
    """The report for people."""
    counts = report.counts
    for each in report.findings:
        yield str(each)
    if report.total > len(report.findings):
        yield f"... and {report.total - len(report.findings)} more findings"
    for reason in report.stopped:
        yield f"note: {reason}"
    yield f"net     {report.net}, rules version {report.rules_version}"
    yield f"ledger  {report.height:,} blocks, {report.size:,} leaves, root {report.root}"
    yield (
        f"checked {counts.signatures:,} signatures of authors, {counts.certificates:,} proofs of"
        f" votes, {counts.operations:,} operations, {counts.rows:,} rows in {seconds:.1f} s"
    )
    if report.stopped and not report.total:
        yield "NOT WHOLE: nothing was found in what could be checked"
    else:
        yield "clean" if report.clean else f"NOT CLEAN: {report.total} findings"
