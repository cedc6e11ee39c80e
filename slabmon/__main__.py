"""python -m slabmon."""

import sys

from slabmon.cli import main

sys.exit(main())
