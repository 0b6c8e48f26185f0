"""`python -I -m tilth.algorithm [ROOT]` runs the step below ROOT (/task) and exits with its code.

`--serve ROOT` becomes a zygote instead (see `serve`).
"""

import sys
from pathlib import Path

from tilth.algorithm import runner, serve

if len(sys.argv) > 2 and sys.argv[1] in (serve.PREPARED, serve.PLAIN):
    serve.serve(Path(sys.argv[2]), sys.argv[1])
else:
    sys.exit(runner.run(Path(sys.argv[1] if len(sys.argv) > 1 else "/task")))
