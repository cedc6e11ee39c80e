# SPDX-License-Identifier: Apache-2.0
"""Errors a user can act on, each with the exit code the command line promises."""


class SlabmonError(Exception):
    """An expected failure. The message says what failed, why, and what to do."""

    exit_code = 70


class UsageError(SlabmonError):
    """Bad arguments, configuration or input file."""

    exit_code = 2


class DamagedSnapshot(UsageError):
    """One snapshot of a recording or a history cannot be read; others may be."""


class PermissionDenied(SlabmonError):
    """The process lacks a privilege."""

    exit_code = 3


class NeedsRoot(PermissionDenied):
    """The kernel of this host can only be read as root."""


class UnsupportedHost(SlabmonError):
    """This kernel or host lacks something that slabmon needs."""

    exit_code = 4
