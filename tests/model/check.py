"""Check the model of voting with spin: which settings must be safe, and which must fork.

    python tests/model/check.py            # all cases, some minutes each on one core
    python tests/model/check.py --quick    # those that end within seconds

Needs spin and gcc. A case that must hold is searched exhaustively: every state that its setting can
reach. A case that must fork shows that the model, and the property that it is checked for, can see
what the rule prevents.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

MODEL = Path(__file__).with_name("voting.pml")
COMPILE = ("-DSAFETY", "-DNOREDUCE", "-DNOFAIR", "-DMEMLIM=6000")  # one process: nothing to reduce
SAFE, FORKS = "safe", "forks"


@dataclass(frozen=True, slots=True)
class Case:
    """One setting of the model's switches, and what must come of it."""

    says: str
    switches: str
    expected: str
    quick: bool = False


THREE = "N=3 Q=2"
FOUR = "N=4 Q=3 LIARS=1"
FOURS = "N=4 Q=3 EPOCHS=2 FOUNDERS=4"
CHANGE = "N=3 Q=2 EPOCHS=2 FOUNDERS=3"
# The rules that only bind where a leader offers two blocks need leaders that do.
RULES = {
    "PARENT_CERTIFICATE": "LEADERS_LIE ",
    "SKIP_PROOFS": "",
    "NO_FINALIZE_AFTER_NULLIFY": "",
    "NO_NULLIFY_AFTER_FINALIZE": "",
    "ONE_NOTARIZE": "LEADERS_LIE ",
}
CASES = (
    Case("3 members, q = 2", f"{THREE} V=2", SAFE, quick=True),
    Case("3 members, q = 2, 3 views", f"{THREE} V=3", SAFE),
    Case(
        "3 members, q = 2, leaders that offer anything",
        f"{THREE} V=2 LEADERS_LIE",
        SAFE,
        quick=True,
    ),
    Case("4 members, q = 3, one lies", f"{FOUR} V=2", SAFE, quick=True),
    Case("4 members, q = 3, one lies, 3 views", f"{FOUR} V=3", SAFE),
    Case("4 members, q = 3, two lie: one more than 2q - n - 1", "N=4 Q=3 LIARS=3 V=2", FORKS, True),
    Case(
        "3 members, q = 2, one lies: one more than 2q - n - 1", "N=3 Q=2 LIARS=1 V=2", FORKS, True
    ),
    *(
        Case(f"3 members without the rule {rule}", f"{THREE} V=3 {more}WITHOUT_{rule}", FORKS, True)
        for rule, more in RULES.items()
    ),
    *(
        Case(
            f"4 members without the rule {rule}",
            f"{FOUR} V={2 if more else 3} WITHOUT_{rule}",
            FORKS,
            True,
        )
        for rule, more in RULES.items()
    ),
    Case("a member that lost its votes goes on voting", f"{THREE} V=2 LOSS=1", FORKS, True),
    Case(
        "... after q - 1 others showed it nothing: this detects, it does not prove",
        f"{THREE} V=2 LOSS=2",
        FORKS,
        True,
    ),
    Case(
        "... only in the next epoch, with another key",
        f"{CHANGE} MEMBERS2=7 V=2 LOSS=3",
        SAFE,
        True,
    ),
    Case("an epoch's end, 3 members, the same set", f"{CHANGE} MEMBERS2=7 V=2", SAFE, True),
    Case("an epoch's end, q from 2 to 3", f"{CHANGE} MEMBERS2=7 Q2=3 V=2", SAFE, True),
    Case("an epoch's end, 3 members, 3 views", f"{CHANGE} MEMBERS2=7 V=3", SAFE),
    Case(
        "an epoch's end, one of three replaced",
        "N=4 Q=2 EPOCHS=2 FOUNDERS=3 MEMBERS2=14 V=2",
        SAFE,
        True,
    ),
    Case("an epoch's end, 4 members, the same set", f"{FOURS} MEMBERS2=15 V=2", SAFE),
    Case("an epoch's end, 4 members, one leaves", f"{FOURS} MEMBERS2=14 Q2=2 V=2", SAFE),
    Case(
        "an epoch's end, a fourth joins",
        "N=4 Q=2 EPOCHS=2 FOUNDERS=3 MEMBERS2=15 Q2=3 V=2",
        SAFE,
    ),
    Case(
        "an epoch's end, 4 members, one lies and leads the first view",
        f"{FOURS} MEMBERS2=15 LIARS=1 V=2",
        SAFE,
    ),
    Case(
        "an epoch's end, 4 members, one lies and leads the second view",
        f"{FOURS} MEMBERS2=15 LIARS=1 V=2 SHIFT=3",
        SAFE,
    ),
    Case(
        "an epoch that begins with a notarized change",
        f"{CHANGE} MEMBERS2=7 V=2 WITHOUT_FINALITY_AT_EPOCH_END",
        FORKS,
        True,
    ),
    Case(
        "leaves above a change that is not final",
        f"{CHANGE} MEMBERS2=7 V=2 WITHOUT_EMPTY_BLOCKS_ONLY",
        FORKS,
        True,
    ),
)


def run(case: Case, folder: Path, seconds: int) -> tuple[str, str]:
    """What came of a case, and how many states were seen."""
    switches = [f"-D{switch}" for switch in case.switches.split()]
    shutil.copy(MODEL, folder / MODEL.name)
    for command in (
        ["spin", *switches, "-a", MODEL.name],
        ["gcc", "-w", "-O3", *COMPILE, "-o", "pan", "pan.c"],
    ):
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    search = ["./pan", "-m1000000", "-w24"]
    try:
        said = subprocess.run(
            search, cwd=folder, check=True, capture_output=True, text=True, timeout=seconds
        ).stdout
    except subprocess.TimeoutExpired:
        return "not searched to the end", "?"
    states = re.search(r"(\d\S*) states, stored", said)
    if ("Search not completed" in said and "errors: 0" in said) or "max search depth" in said:
        return "not searched to the end", "?"
    return SAFE if "errors: 0" in said else FORKS, states[1] if states else "?"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="only what ends within seconds")
    parser.add_argument("--only", default="", help="cases whose switches hold this text")
    parser.add_argument("--seconds", type=int, default=7200, help="the most that one case may take")
    arguments = parser.parse_args()
    for tool in ("spin", "gcc"):
        if shutil.which(tool) is None:
            sys.exit(f"{tool} is not here: apt-get install {tool}")
    wrong = 0
    for case in CASES:
        if (arguments.quick and not case.quick) or arguments.only not in case.switches:
            continue
        with tempfile.TemporaryDirectory() as folder:
            found, states = run(case, Path(folder), arguments.seconds)
        wrong += found != case.expected
        mark = "as expected" if found == case.expected else f"EXPECTED: {case.expected}"
        print(f"{found:6} {states:>10} states  {case.says}  [{case.switches}]  {mark}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
