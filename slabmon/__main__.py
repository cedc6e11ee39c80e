# SPDX-License-Identifier: Apache-2.0
"""Entry point of `python -m slabmon`."""

import sys

from slabmon.cli.main import main

sys.exit(main())
