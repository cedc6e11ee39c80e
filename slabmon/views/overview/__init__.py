# SPDX-License-Identifier: Apache-2.0
"""The overview, the first view: is this host's kernel memory fine, what is not, and whose is it?"""
