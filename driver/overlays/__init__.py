# SPDX-License-Identifier: Apache-2.0
"""Overlay packages that are installed with hetfab, one folder each. There are none yet, as no bitstream exists.

pynq and ``find_package`` look here for a package by its name (docs/pynq.md).
"""
