# SPDX-License-Identifier: Apache-2.0
"""Energy of a run: from power sensors where there are any, absent elsewhere, and never modelled."""

import contextlib
import importlib.util
import sys
import time
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from hetfab.driver import energy
from hetfab.driver.emulated import EmulatedTransport
from hetfab.driver.energy import Energy, PowerMeter, find_meter
from hetfab.driver.overlay import HetfabOverlay
from hetfab.driver.session import Session
from hetfab.overlay.bind import BoundProgram
from hetfab.overlay.design import default_design
from hetfab.overlay.package import Kind
from tests.conftest import SMALL_GEOMETRY
from tests.programs import bound_to, compiled, quantized
from tests.random_models import academic_case


class FakeRecorder:
    """Records given watts; remembers what was asked of it."""

    def __init__(self, watts: dict[str, list[float]]) -> None:
        self.watts = watts
        self.frame: dict[str, list[float]] = {name: [9.0, 9.0] for name in watts}
        self.intervals: list[float] = []

    def reset(self) -> None:
        self.frame = {name: [] for name in self.watts}

    @contextlib.contextmanager
    def record(self, interval: float) -> Iterator["FakeRecorder"]:
        self.intervals.append(interval)
        yield self
        self.frame = {name: list(values) for name, values in self.watts.items()}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second between two looks at the clock."""
    ticks = iter(range(100))
    monkeypatch.setattr(energy, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))


@pytest.fixture(scope="module")
def bound() -> BoundProgram:
    case = academic_case()
    return bound_to(compiled(quantized(case).model, case.graph, SMALL_GEOMETRY), case.graph)


def test_energy_is_mean_power_times_time(clock: None) -> None:
    """Samples of the run before do not count."""
    recorder = FakeRecorder({"12V_power": [4.0, 6.0, 5.0], "INT_power": [1.0, 1.0, 4.0]})
    meter = PowerMeter(recorder, ["12V_power", "INT_power"])
    with meter.running():
        pass
    assert meter.energy() == Energy({"12V_power": 5.0, "INT_power": 2.0}, 1.0, 3)
    assert recorder.intervals == [0.02]


@pytest.mark.parametrize("samples", [[], [5.0]])
def test_a_run_of_fewer_than_two_samples_has_no_energy(samples: list[float]) -> None:
    meter = PowerMeter(FakeRecorder({"12V_power": samples}), ["12V_power"])
    with meter.running():
        pass
    assert meter.energy() is None


def test_a_session_with_a_meter_gives_energy_with_each_run(bound: BoundProgram, clock: None) -> None:
    design = bound.program.design
    meter = PowerMeter(FakeRecorder({"12V_power": [2.0, 3.0]}), ["12V_power"])
    with EmulatedTransport(design) as transport:
        metered = Session(transport, design, meter=meter).run(bound)
        plain = Session(transport, design).run(bound)
    assert metered.energy == Energy({"12V_power": 2.5}, 1.0, 2)
    assert plain.energy is None
    assert np.array_equal(metered.logits, plain.logits)


def fake_pynq(monkeypatch: pytest.MonkeyPatch, rails: dict[str, SimpleNamespace]) -> list[FakeRecorder]:
    """Puts a pynq with these rails in place; returns the recorders that are made."""
    made: list[FakeRecorder] = []

    def recorder(*sensors: SimpleNamespace) -> FakeRecorder:
        made.append(FakeRecorder({sensor.name: [1.0, 1.0] for sensor in sensors}))
        return made[-1]

    module = ModuleType("pynq")
    module.DataRecorder, module.get_rails = recorder, lambda: rails  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pynq", module)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: SimpleNamespace(name=name))
    return made


def test_all_rails_with_power_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    sensor = SimpleNamespace(name="12V_power")
    rails = {"12V": SimpleNamespace(power=sensor), "3V3": SimpleNamespace(power=None)}
    made = fake_pynq(monkeypatch, rails)
    meter = find_meter()
    assert meter is not None and list(made[0].watts) == ["12V_power"]


def test_a_board_without_sensors_has_no_meter(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fake_pynq(monkeypatch, {"3V3": SimpleNamespace(power=None)}) == [] and find_meter() is None


@pytest.mark.parametrize("missing", ["pynq", "pandas"])
def test_without_what_records_there_is_no_meter(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else SimpleNamespace())
    assert find_meter() is None


def test_an_emulated_overlay_asks_no_sensors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their host's power would be no board's."""
    design = default_design()

    def never() -> PowerMeter:
        raise AssertionError("sensors of a host")

    monkeypatch.setattr("hetfab.driver.overlay.find_meter", never)
    with HetfabOverlay(design, transport=EmulatedTransport(design)) as overlay:
        assert overlay.package.kind is Kind.EMULATED


class Sensor:
    """A sensor as pynq's recorder reads it; it keeps them in dictionaries."""

    name = "12V_power"
    parents = ()

    def get_value(self, parents: object = None) -> float:
        return 3.0


def test_the_recorder_of_pynq_records() -> None:
    if importlib.util.find_spec("pynq") is None or importlib.util.find_spec("pandas") is None:
        pytest.skip("python: pynq and pandas are not installed (make test-pynq has environments with pynq)")
    from pynq import DataRecorder

    meter = PowerMeter(DataRecorder(Sensor()), ["12V_power"])
    with meter.running():
        time.sleep(0.2)
    found = meter.energy()
    assert found is not None and found.samples >= 2
    assert found.joules["12V_power"] == pytest.approx(3.0 * found.seconds)
