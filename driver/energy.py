# SPDX-License-Identifier: Apache-2.0
"""Energy of a run from a board's power sensors; where a board has none there is no energy, and never a modelled one.

pynq reads the sensors (``get_rails``) and records them beside the run (``DataRecorder``).
"""

import contextlib
import importlib.util
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

#: Between two samples. Sensors on PMBus give new values every few milliseconds.
_INTERVAL_SECONDS = 0.02
#: One sample may be from before the run.
_FEWEST_SAMPLES = 2


@dataclass(frozen=True)
class Energy:
    """What power sensors say of a run.

    Attributes:
        joules: By sensor, as pynq names it. A sensor's rail may supply that of another: their sum means nothing.
        seconds: Length of the run.
        samples: Values of each sensor that were recorded.
    """

    joules: Mapping[str, float]
    seconds: float
    samples: int


class Recorder(Protocol):
    """What is used of ``pynq.DataRecorder``."""

    @property
    def frame(self) -> Any:
        """Samples by the name of their sensor."""

    def reset(self) -> None:
        """Forgets all samples."""

    def record(self, interval: float) -> contextlib.AbstractContextManager[Any]:
        """Records while the context lasts, every ``interval`` seconds."""


class PowerMeter:
    """Power sensors that are recorded while something runs.

    Args:
        recorder: Of the sensors.
        names: Of the sensors.
    """

    def __init__(self, recorder: Recorder, names: Sequence[str]) -> None:
        self._recorder = recorder
        self._names = tuple(names)
        self._seconds = 0.0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Records while the context lasts."""
        self._recorder.reset()
        begin = time.perf_counter()
        with self._recorder.record(_INTERVAL_SECONDS):
            yield
            self._seconds = time.perf_counter() - begin

    def energy(self) -> Energy | None:
        """Mean power times length of what ran last; None where that was too short for two samples."""
        samples = {name: np.asarray(self._recorder.frame[name], np.float64) for name in self._names}
        fewest = min(map(len, samples.values()), default=0)
        if fewest < _FEWEST_SAMPLES:
            return None
        joules = {name: float(values.mean()) * self._seconds for name, values in samples.items()}
        return Energy(joules, self._seconds, fewest)


def find_meter() -> PowerMeter | None:
    """The power sensors that pynq finds on this board; None without any, or without what records them."""
    if importlib.util.find_spec("pynq") is None or importlib.util.find_spec("pandas") is None:
        return None
    with warnings.catch_warnings():
        # pynq warns where libsensors is missing.
        warnings.simplefilter("ignore")
        from pynq import DataRecorder, get_rails

        rails = get_rails()
    sensors = [rail.power for rail in rails.values() if rail.power is not None]
    if not sensors:
        return None
    return PowerMeter(DataRecorder(*sensors), [sensor.name for sensor in sensors])
