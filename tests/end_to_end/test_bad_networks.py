"""Networks as they really fail, under 3, 4, 5 and 7 real nodes: who still forms a quorum goes on,
every answer is one that a single log could have given, and after healing all is well.

Longer, and with every fault: `bad_networks.py`, run as a program.
"""

from pathlib import Path

import pytest
from bad_networks import is_well, suffer, troubled
from crowd import Crowd
from lacking import lacks
from linearizable import Kind
from wires import NoWires

# Faults that differ with the number of nodes come with more; the others where they cost least.
RUNS = {
    3: ("two_cannot_talk", "nobody_hears_one", "wide_area", "stopped", "one_hears_nobody"),
    4: ("only_through_one", "one_way"),
    5: ("minority_apart", "killed_beside_a_cut"),
    7: ("minority_apart",),
}


@pytest.mark.slow
@pytest.mark.parametrize("nodes", RUNS)
def test_who_forms_a_quorum_goes_on_and_nobody_is_told_what_no_log_would_say(
    tmp_path: Path, nodes: int
) -> None:
    try:
        with troubled(tmp_path, nodes, seed=nodes) as it:
            crowd = Crowd(it.network, it.nodes, seed=nodes)
            with crowd:
                for name in RUNS[nodes]:
                    suffer(it, crowd, name)
            history = crowd.check()
            assert {call.kind for call in history} == set(Kind)
            is_well(it)
    except NoWires as missing:
        lacks(str(missing))
