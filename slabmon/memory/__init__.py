# SPDX-License-Identifier: Apache-2.0
"""All of the host's memory as one account that adds up."""
