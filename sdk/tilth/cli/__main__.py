"""`python -m tilth.cli`, the same as the `tilth` command."""

import sys

from tilth.cli import main

sys.exit(main())
