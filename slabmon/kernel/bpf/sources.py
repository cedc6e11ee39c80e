# SPDX-License-Identifier: Apache-2.0
"""The directory of the BPF sources."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[2]
# In a wheel bpf/ is inside the package, in a checkout beside it.
BPF_DIR = _PACKAGE / "bpf" if (_PACKAGE / "bpf").is_dir() else _PACKAGE.parent / "bpf"
