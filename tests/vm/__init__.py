# SPDX-License-Identifier: Apache-2.0
"""Stock Debian kernels in throw-away virtual machines, for tests that need ground truth.

Everything here runs under plain software emulation, so that it behaves the same
on a laptop, in CI and inside another virtual machine. Nothing is ever loaded
into, or configured on, the kernel of the machine that runs the harness.
"""
