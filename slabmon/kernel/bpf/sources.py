# SPDX-License-Identifier: Apache-2.0
"""Where the BPF sources are."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[2]
# In a wheel bpf/ lies inside the package, in a checkout beside it.
BPF_DIR = _PACKAGE / "bpf" if (_PACKAGE / "bpf").is_dir() else _PACKAGE.parent / "bpf"
