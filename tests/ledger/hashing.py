"""Prints root and digest of one fixed history; run in child processes with differing hash seeds."""

import sys

from rules_world import Digits, World


def history():
    world = World()
    digits = Digits(world, world.organizations, "hospital-a")
    digits.grant_all()
    tasks, final, _ = digits.fedavg("hospital-b", need={"at_least": 2})
    world.plan("hospital-a", tasks, final=[final["key"]], objectives=[digits.objective])
    world.doing(tasks[0])
    world.failed(tasks[0])
    world.submit("hospital-a", {"op": "task.retry", "task": tasks[0]["key"]})
    world.run_all()
    return world


if __name__ == "__main__":
    state = history().state
    sys.stdout.write(f"{state.root.hex()} {state.digest.hex()}\n")
