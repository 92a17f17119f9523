"""`python -m likely`: the command."""

import sys

from likely.cli import main

sys.exit(main())
