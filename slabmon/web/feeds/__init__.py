# SPDX-License-Identifier: Apache-2.0
"""Where the web process takes its data from: readings, history, past moments."""
