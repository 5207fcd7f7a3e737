# SPDX-License-Identifier: Apache-2.0
"""Searches over tables of costs: what is chosen, and how it is scored, is the caller's."""
