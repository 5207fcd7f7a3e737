# SPDX-License-Identifier: Apache-2.0
"""The interrupt line from the fabric to pynq, in place of a UIO device of Linux."""

import asyncio
from typing import Any

from hetfab.driver.pynq_device.registers import DispatchBlock, InterruptControllerBlock


class FabricInterrupt:
    """What ``pynq.interrupt`` takes for a ``UioController``; the event loop lets the overlay's time pass.

    Nothing runs in a thread of its own: while somebody waits, each turn of the event loop is some steps of the
    engines.
    """

    def __init__(self, controller: InterruptControllerBlock, dispatch: DispatchBlock) -> None:
        self._controller, self._dispatch = controller, dispatch
        self._waiting: list[tuple[asyncio.AbstractEventLoop, Any]] = []
        self._stepping = False
        controller.changed = dispatch.changed = self.update

    def add_event(self, event: Any, number: int) -> None:
        """Sets an event when the line is next high."""
        self._waiting.append((asyncio.get_running_loop(), event))
        self.update()

    def update(self) -> None:
        """Passes levels on: DISPATCH's line to the controller, the controller's to whoever waits."""
        self._controller.set_level(self._dispatch.interrupt)
        if self._controller.interrupt:
            waiting, self._waiting = self._waiting, []
            for loop, event in waiting:
                loop.call_soon(event.set)
        elif self._waiting and self._dispatch.overlay.running and not self._stepping:
            self._stepping = True
            self._waiting[0][0].call_soon(self._step)

    def _step(self) -> None:
        self._stepping = False
        if self._waiting and self._dispatch.overlay.running:
            self._dispatch.advance()
