# SPDX-License-Identifier: Apache-2.0
"""Views, columns and tables, shared by every output."""
