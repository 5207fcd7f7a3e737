# SPDX-License-Identifier: Apache-2.0
"""Notebooks that run without a board; ``pynq get-notebooks hetfab`` copies them to a folder."""
