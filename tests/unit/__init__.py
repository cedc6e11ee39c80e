# SPDX-License-Identifier: Apache-2.0
"""Tests of single modules: no root, no bcc, no network."""
