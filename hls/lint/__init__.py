# SPDX-License-Identifier: Apache-2.0
"""Checks HLS sources against what synthesis tools take and what this project allows itself; docs/lint.md lists it."""
