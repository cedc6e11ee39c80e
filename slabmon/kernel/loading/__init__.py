# SPDX-License-Identifier: Apache-2.0
"""Compiling with bcc in a child process, loading and attaching."""
