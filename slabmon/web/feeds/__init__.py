# SPDX-License-Identifier: Apache-2.0
"""The data that handlers serve: readings, live windows, history, past moments."""
