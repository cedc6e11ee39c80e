# SPDX-License-Identifier: Apache-2.0
"""The devices that memory is allocated for, managed (devres) or not."""
