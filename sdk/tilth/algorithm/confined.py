"""`python -m tilth.algorithm.confined LIMITS ROOT`: one step behind the last walls.

What a container's first process starts: it gives up writing anywhere but in the step's own
folders, takes its limits (JSON, as `confine.limit` wants them), and runs the step.
"""

import json
import sys
from pathlib import Path

from tilth.algorithm import confine, runner

if __name__ == "__main__":
    confine.limit(json.loads(sys.argv[1]))
    confine.landlock()
    sys.exit(runner.run(Path(sys.argv[2])))
