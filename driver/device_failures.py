# SPDX-License-Identifier: Apache-2.0
"""Names what fails below a transport: loading that hangs or finds no room, accesses that fail, clocks that stop."""

import errno
import threading
from collections.abc import Callable

from hetfab.overlay.errors import (
    BusError,
    ClockStoppedError,
    DeviceLostError,
    DiskFullError,
    LoadDeadlineError,
    OverlayPackageError,
    RunError,
)

#: How long loading an overlay may take: seconds on a board, more where its files come over a network.
LOAD_SECONDS = 60.0
_OF_LOST_DEVICES = (
    errno.ENODEV,
    errno.ENXIO,
    errno.EPIPE,
    errno.ECONNRESET,
    errno.ECONNABORTED,
    errno.ETIMEDOUT,
    errno.EHOSTUNREACH,
)


def load_within(seconds: float, load: Callable[[], None]) -> None:
    """Loads an overlay, but does not wait for ever: a load that hangs stays behind in a thread of its own.

    Args:
        seconds: How long to wait.
        load: Loads it.

    Raises:
        LoadDeadlineError: It did not end in time.
        DiskFullError: There is no room for what it writes.
        OverlayPackageError: A file cannot be read.
        Exception: Whatever else ``load`` raises.
    """
    raised: list[BaseException] = []

    def run() -> None:
        try:
            load()
        except BaseException as error:  # Whatever it is belongs to the thread that waits.
            raised.append(error)

    thread = threading.Thread(target=run, name="hetfab-load", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise LoadDeadlineError(
            f"loading the overlay did not end within {seconds:g} s",
            "a configuration port that takes the bitstream within seconds",
            "start the board again, then open the overlay again",
        )
    if not raised:
        return
    error = raised[0]
    if isinstance(error, OSError):
        raise _load_failure(error) from error
    raise error


def _load_failure(error: OSError) -> DiskFullError | OverlayPackageError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(
            f"loading the overlay failed: {error.strerror or error}",
            "room for a copy of the bitstream in the board's /lib/firmware and in the working folder",
            "free space on the board's disk, then open the overlay again",
        )
    return OverlayPackageError(
        f"loading the overlay failed: {error}",
        "an overlay package whose files this user may read, and a board that takes it",
        "check the package and the permissions, then open the overlay again",
    )


def lost_access(error: OSError, offset: int) -> RunError:
    """The error of a register that could not be accessed."""
    found = f"the access to the register at {offset:#x} failed: {error.strerror or error}"
    if error.errno in _OF_LOST_DEVICES:
        return DeviceLostError(
            found,
            "a device that has power and is reached",
            "check power and link, then load the overlay again (HetfabOverlay.recover())",
        )
    return BusError(
        found,
        "a bus that answers at the overlay's addresses",
        "load the overlay again (HetfabOverlay.recover()); if this stays, start the board again",
    )


def clock_stopped(found_mhz: float, loaded_mhz: float) -> ClockStoppedError:
    """The error of a clock that does not run as when the overlay was loaded."""
    return ClockStoppedError(
        f"the overlay's clock runs at {found_mhz:g} MHz",
        f"{loaded_mhz:g} MHz, as when the overlay was loaded",
        "let nobody else change the fabric's clocks, then load the overlay again (HetfabOverlay.recover())",
    )
