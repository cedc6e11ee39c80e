# SPDX-License-Identifier: Apache-2.0
"""Fixtures of all guest tests, for those of guests that are booted with other settings."""

from tests.vm.guest.conftest import healthy_kernel, planted

__all__ = ["healthy_kernel", "planted"]
