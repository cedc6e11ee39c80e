"""python -m slabmon."""

import sys

from slabmon.cli.main import main

sys.exit(main())
