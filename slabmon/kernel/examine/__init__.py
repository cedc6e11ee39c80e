# SPDX-License-Identifier: Apache-2.0
"""Examinations: exact tracking of one suspect for a limited time, in a process of its own."""
