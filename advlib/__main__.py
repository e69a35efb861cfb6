"""``python -m advlib``: the command line."""

import sys

from advlib.cli import main

sys.exit(main())
