"""Rules about who votes and what is shown, each taken out of the real code: a world of the real
state machine must notice.

    python tests/simulation/ruled_removals.py            # which seed of the first ones notices

As in `removals.py`: a removal names a function and the words in it that are changed.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "ledger"), str(HERE.parent.parent / "ledger")]

from removals import CAUGHT, Removal, removed  # noqa: E402
from ruled_script import script  # noqa: E402
from ruled_world import RuledWorld  # noqa: E402

SEEDS = (8, 10, 15, 23, *range(40))
RULED_REMOVALS = {
    "a newcomer votes without proof of its key": Removal(
        "rules_members:_check_copy",
        "check_copy(bytes.fromhex(context.net), stated, key)",
        "pass",
        "ruled",
        seed=26,
    ),
    "a newcomer votes on a copy of another tree": Removal(
        "rules_members:_check_copy", 'if stated["root"] != root:', "if False:", "ruled", seed=10
    ),
    "keys are taken from whoever states them": Removal(
        "genesis:parse_member_file",
        "getattr(member.keys, name).verify(signature, signed)",
        "pass",
        "ruled",
        seed=8,
    ),
    "a rotated key stays in force": Removal(
        "rules_members:_rotate", '| {"keys": keys, ', '| {"keys": row["keys"], ', "ruled", seed=10
    ),
    "a removed member votes on": Removal(
        "rules_members:_remove",
        "members=[each for each in out.members if each != name],\n"
        '        changed={name: {**row, "votes": False, "removed": True}}',
        "members=out.members, changed={name: row}",
        "ruled",
        seed=26,
    ),
    "a removed member's keys sign on": Removal(
        "rules_members:_remove", "revoked=active", "revoked=[]", "ruled", seed=19
    ),
    "an admin's old key signs on": Removal(
        "rules_members:_rotate",
        'revoked=[PublicKey.from_hex(row["keys"][role]).key_id for role in roles]',
        "revoked=[]",
        "ruled",
        seed=31,
    ),
    "k is not raised": Removal(
        "rules_members:_take_effect", '"k": proposal["k"]', '"k": proposal["q"]', "ruled", seed=15
    ),
    "fewer may cosign than vote": Removal(
        "rules_members:_outcome", "and q <= k <= n", "and k <= n", "ruled", seed=8
    ),
    "a half of the members is a quorum": Removal(
        "rules_members:_outcome", "n < 2 * q and", "", "ruled", seed=3
    ),
    "a policy is of the epoch before": Removal(
        "epochs:signers_of",
        "rows.get(epoch_key(epoch))",
        "rows.get(epoch_key(max(0, epoch - 1)))",
        "ruled",
        seed=10,
    ),
    "a withdrawn row stands": Removal(
        "standing:standing", "if not _is_gone(rows, results, size)", "", "ruled", seed=10
    ),
    "a board shows what came after its size": Removal(
        "leaderboard:_results", 'size is None or row["index"] < size', "True", "ruled", seed=10
    ),
    "a withdrawn row is shown as the others": Removal(
        "leaderboard:_notes",
        'if _ended(rows.get(f"{noun}/{key}"), "withdrawn", size):',
        "if False:",
        "ruled",
        seed=10,
    ),
    "an accused member's rows say nothing": Removal(
        "leaderboard:board", "accused = _accused(rows, size)", "accused = {}", "ruled", seed=23
    ),
    "a recorded board says nothing of who is accused": Removal(
        "standing:_row", 'if any(row["index"] < size for', "if any(False for", "ruled", seed=23
    ),
    "evidence is of another member": Removal(
        "rules_evidence:accused",
        'members[evidence.member]["organization"]',
        'members[evidence.member - 1]["organization"]',
        "ruled",
        seed=23,
    ),
}


def noticed(removal: Removal, seed: int) -> str:
    """The violation in which a world without the rule ends; empty if it does not."""
    script()  # all that it hands in was right before
    try:
        with removed(removal):
            RuledWorld(seed).run()
    except CAUGHT as error:
        return f"{type(error).__name__}: {error}"
    return ""


def main() -> int:
    missed = 0
    for name, removal in RULED_REMOVALS.items():
        tried = ((seed, noticed(removal, seed)) for seed in (removal.seed, *SEEDS))
        seed, how = next((each for each in tried if each[1]), (None, "MISSED"))
        missed += seed is None
        print(f"{name}: {seed} ({how[:150]})", flush=True)
    return missed


if __name__ == "__main__":
    sys.exit(main())
