"""How much the ledger takes in: entries signed one by one, and operations that share entries.

Three real nodes, then four, with mutual TLS, syncs and full verification, all on this machine with
their one client. Beside them, in turns, an etcd of three members that syncs as well, with values of
400 bytes and 256 callers. Medians of the turns; CPU time tells what a busy machine hides.
"""

import os
import statistics
import sys
import tempfile
from pathlib import Path

SINGLE_BAR = 3_500
OPERATIONS_BAR = 9_000
FOUR_BAR = 0.7
CALLERS = 128
OPERATIONS_AT_ONCE = 1_600
ETCD_CALLERS = 256
TURNS = 3
SECONDS = 4.0

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "end_to_end"))


def turns(network, etcd):
    """Single entries, operations and puts, in turns; each list of measures by its name."""
    from _callers import Office, measured

    office = Office(network)
    found = {"single": [], "operations": [], "puts": []}
    for _ in range(TURNS):
        found["single"].append(measured(network, office.identity, CALLERS, SECONDS))
        found["operations"].append(measured(network, office.sample, OPERATIONS_AT_ONCE, SECONDS))
        if etcd is not None:
            found["puts"].append(etcd.puts(ETCD_CALLERS, SECONDS))
    return found


def run(scratch, members, etcd):
    from network import Network

    folder = scratch / f"nodes-{members}"
    folder.mkdir()
    with Network(folder, members) as network:
        network.start()
        return turns(network, etcd)


def median(measures, field="rate"):
    return statistics.median(each[field] for each in measures)


def cpu(measures):
    nodes, client = median(measures, "nodes_us"), median(measures, "client_us")
    cores = os.cpu_count()
    return f"{cores} cores at {nodes:.0f} us of all nodes and {client:.0f} us of the client each"


def limit(measures):
    """What the cores would allow if nothing else ran on them."""
    return os.cpu_count() * 1e6 / (median(measures, "nodes_us") + median(measures, "client_us"))


def figure(name, measures, bar):
    rate = median(measures)
    return {
        "figure": f"ledger: {name}",
        "value": round(rate),
        "unit": "1/s",
        "bar": round(bar),
        "holds": rate >= bar,
        "against": cpu(measures),
        "ratio": round(rate / limit(measures), 2),
    }


def beside_etcd(operations, puts):
    """Operations against puts of the same turns."""
    from _etcd import MISSING

    name = "ledger: operations against etcd's puts, 256 callers, of the same turns"
    if not puts:
        return {"figure": name, "against": MISSING}
    ratios = [ours["rate"] / theirs["rate"] for ours, theirs in zip(operations, puts, strict=True)]
    ratio = statistics.median(ratios)
    return {
        "figure": name,
        "value": round(median(puts)),
        "unit": "puts/s of etcd",
        "bar": 1,
        "holds": ratio >= 1,
        "against": f"{round(median(operations))} operations/s",
        "ratio": round(ratio, 2),
    }


def main():
    """Yields rates of three nodes, of etcd, and of four nodes."""
    import contextlib

    import _etcd
    from network import free_port

    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        place = Path(scratch)
        etcd = None
        if _etcd.is_here():
            etcd = stack.enter_context(_etcd.Cluster(place / "etcd", free_port))
            etcd.leader()
        three = run(place, 3, etcd)
        single, operations = three["single"], three["operations"]
        yield figure("entries signed one by one, 128 callers, 3 nodes", single, SINGLE_BAR)
        yield figure("operations, 50 to an entry, 3 nodes", operations, OPERATIONS_BAR)
        yield beside_etcd(operations, three["puts"])
        four = run(place, 4, None)
        name = "entries signed one by one, 128 callers, 4 nodes"
        yield figure(name, four["single"], FOUR_BAR * median(single))
        name = "operations, 50 to an entry, 4 nodes"
        yield figure(name, four["operations"], FOUR_BAR * median(operations))
