# SPDX-License-Identifier: Apache-2.0
"""A board that another machine drives: the board's side, the link between both, and the transport on top of it."""
