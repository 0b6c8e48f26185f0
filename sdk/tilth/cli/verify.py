"""`tilth verify`: check an exported row offline. No node is asked."""

import argparse
from pathlib import Path

from tilth.cli.options import show


def register(noun: argparse.ArgumentParser) -> None:
    noun.add_argument("row", type=Path, help="a proof bundle, from tilth row export")
    noun.add_argument("--genesis", type=Path, required=True, help="the consortium's genesis file")
    noun.add_argument("--trusted", type=Path, help="a checkpoint that the ledger must extend")
    noun.add_argument(
        "--witness",
        action="append",
        default=[],
        metavar="VKEY",
        help="verifier key of a cosigner outside the consortium that must have signed; repeat",
    )
    noun.add_argument(
        "--before",
        type=Path,
        metavar="FILE",
        help="genesis of the consortium that this one continues, for a proof from its time",
    )
    noun.add_argument("--json", action="store_true", help="print JSON")
    noun.set_defaults(run=_verify)


def _verify(arguments: argparse.Namespace) -> int:
    from tilth.verification import verify

    report = verify(
        arguments.row,
        genesis=arguments.genesis,
        trusted=arguments.trusted,
        witnesses=arguments.witness,
        before=arguments.before,
    )
    facts = {
        "ok": report.ok,
        "proven": list(report.proven),
        "not_proven": list(report.not_proven),
        "facts": dict(report.facts),
    }
    show(arguments, facts, str(report))
    return 0 if report.ok else 1
