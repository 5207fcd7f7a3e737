# SPDX-License-Identifier: Apache-2.0
"""The option ``--fallback``, which several commands have."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from hetfab.overlay.host_nodes import Fallback

_Command = TypeVar("_Command", bound=Callable[..., Any])


def fallback_option(command: _Command) -> _Command:
    """Adds the option; the command gets a ``Fallback``."""
    return click.option(
        "--fallback",
        type=click.Choice([each.value for each in Fallback]),
        default=Fallback.NONE.value,
        show_default=True,
        callback=lambda context, option, value: Fallback(value),
        help="host: operators on rows that the overlay lacks run in onnxruntime.",
    )(command)
