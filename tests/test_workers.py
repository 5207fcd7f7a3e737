# SPDX-License-Identifier: Apache-2.0
"""Evaluations on several kinds of workers: the same results, deaths lose only their own evaluation, typed errors."""

import importlib.metadata
import inspect
import os
import pickle
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from hetfab.overlay import errors
from hetfab.overlay.errors import (
    ClusterUnreachableError,
    HetfabError,
    PackageMissingError,
    SearchInvalidError,
    WorkerDiedError,
)
from hetfab.overlay.search import workers as module
from hetfab.overlay.search.evaluations import evaluated
from hetfab.overlay.search.journal import Journal
from hetfab.overlay.search.workers import HERE, Backend, Workers, open_workers
from tests.evaluation_jobs import always_killed, grown, killed_once, left, marked, process_of, refused, square

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module", autouse=True)
def importable() -> Iterator[None]:
    """Other processes find the evaluations of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT)
        yield


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The scheduler's address of a Dask cluster with four workers, processes that nobody starts again."""
    import dask
    import distributed

    local: Any = distributed.LocalCluster
    client_of: Any = distributed.Client
    options: dict[str, Any] = {"n_workers": 0, "processes": False, "protocol": "tcp://", "dashboard_address": None}
    with ExitStack() as stack:
        stack.enter_context(dask.config.set({"distributed.scheduler.allowed-failures": 1}))
        address = stack.enter_context(local(**options)).scheduler_address
        command = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--no-nanny", "--no-dashboard"]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        for _ in range(4):
            worker = subprocess.Popen([*command, "--nthreads=1"], env=env, stderr=subprocess.DEVNULL)
            stack.callback(worker.wait)
            stack.callback(worker.kill)
        with client_of(address, set_as_default=False) as client:
            client.wait_for_workers(4)
        yield address


@pytest.fixture(scope="module", params=["local", "dask"])
def several(request: pytest.FixtureRequest) -> Iterator[Workers]:
    """Two workers of a kind."""
    if request.param == "local":
        opened = open_workers(count=2)
    else:
        opened = open_workers(Backend.DASK, cluster=request.getfixturevalue("cluster"))
    with opened:
        yield opened


def jobs(count: int) -> dict[str, int]:
    return {f"job {number}": number for number in range(count)}


def test_results_are_those_of_one_process(several: Workers) -> None:
    expected = evaluated(square, jobs(7), Journal(None, ""), HERE)
    noted: list[None] = []
    found = evaluated(square, jobs(7), Journal(None, ""), several, lambda: noted.append(None))
    assert found == expected == {f"job {n}": n * n for n in range(7)} and list(found) == list(expected)
    assert len(noted) == 7


def test_nothing_to_do_asks_no_worker(several: Workers) -> None:
    known = Journal(None, "")
    known.note("job 3", 9)
    assert evaluated(square, {}, known, several) == {}
    assert evaluated(square, {"job 3": 3}, known, several) == {"job 3": 9}


def test_a_worker_that_is_killed_loses_only_its_own_evaluation(several: Workers, tmp_path: Path) -> None:
    taken = {key: (number, tmp_path) for key, number in jobs(4).items()}
    assert evaluated(killed_once, taken, Journal(None, ""), several) == {f"job {n}": n * n for n in range(4)}
    begun = [path.name.split()[0] for path in tmp_path.iterdir()]
    # Dask may have handed the killed worker one more job, which had not begun.
    assert sorted(begun) == ["0", "1", "1", "2", "3"]


def test_an_evaluation_that_kills_every_worker_is_named_and_the_others_are_kept(
    several: Workers, tmp_path: Path
) -> None:
    path = tmp_path / "journal"
    with pytest.raises(WorkerDiedError) as caught, Journal(path, "search") as journal:
        evaluated(always_killed, jobs(3), journal, several)
    assert "died while they computed 'job 1'" in caught.value.found and caught.value.found[0] in "23"
    with Journal(path, "search") as journal:
        assert "job 0" in journal and "job 2" in journal and "job 1" not in journal
        # What is missing is all that the next run evaluates.
        assert evaluated(square, jobs(3), journal, HERE) == {f"job {n}": n * n for n in range(3)}


def test_a_process_keeps_what_it_has_opened_however_much_memory_that_takes() -> None:
    with open_workers(count=2) as opened:
        assert len({opened.call(f"{size} MB", grown, size) for size in (1, 400, 1, 1)}) == 1


def test_one_evaluation_stays_here_until_processes_were_started() -> None:
    """They keep what they have opened, which this one may not have."""
    with open_workers(count=2) as opened:
        assert evaluated(process_of, {"alone": 0}, Journal(None, ""), opened) == {"alone": os.getpid()}
        started = set(evaluated(process_of, jobs(2), Journal(None, ""), opened).values())
        assert set(evaluated(process_of, {"alone": 0}, Journal(None, ""), opened).values()) <= started
        assert os.getpid() not in started


def test_processes_of_this_machine_share_a_folder_that_goes_with_them(several: Workers) -> None:
    assert HERE.folder is None and (several.folder is None) == (type(several).__name__ == "DaskWorkers")
    with open_workers(count=2) as opened:
        folder = opened.folder
        assert folder is not None and folder.is_dir()
    assert not folder.exists()


def test_each_process_first_does_what_it_is_prepared_with(several: Workers, tmp_path: Path) -> None:
    with open_workers(count=2) as opened:
        opened.prepare(marked, tmp_path)
        assert evaluated(square, jobs(4), Journal(None, ""), opened) == {f"job {n}": n * n for n in range(4)}
        assert len({path.name for path in tmp_path.iterdir()} - {str(os.getpid())}) == 2
    HERE.prepare(marked, tmp_path / "none")  # This process opens what it needs when it needs it.


@pytest.mark.parametrize("function", [refused, always_killed])
def test_what_fails_while_processes_are_prepared_fails_nothing_else(function: Callable[[int], Any]) -> None:
    with open_workers(count=2) as opened:
        opened.prepare(function, 1)
        assert evaluated(square, jobs(4), Journal(None, ""), opened) == {f"job {n}": n * n for n in range(4)}


def test_errors_of_a_job_arrive_as_they_are(several: Workers) -> None:
    with open_workers(count=2) if several.folder else several as own, pytest.raises(SearchInvalidError) as caught:
        evaluated(refused, {"one": 1, "two": 1}, Journal(None, ""), own)
    assert str(caught.value) == "1 is odd\n  expected: an even number\n  do: add one"


def test_all_errors_survive_the_way_from_another_process() -> None:
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, HetfabError)]
    assert len(kinds) > 60
    for kind in kinds:
        error = kind.__new__(kind, "found")
        error.__dict__.update(found="found", expected="expected", do="do", differences=(1,), exit_code=7)
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is kind and vars(again) == vars(error) and str(again) == str(error)


def test_a_cluster_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hetfab.overlay.search.dask_workers._CONNECT_SECONDS", 0.2)
    with pytest.raises(ClusterUnreachableError, match=r"no Dask scheduler answers at 'tcp://127.0.0.1:1'"):
        open_workers(Backend.DASK, cluster="tcp://127.0.0.1:1")


def test_a_cluster_whose_workers_have_gone_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import distributed

    local: Any = distributed.LocalCluster
    monkeypatch.setattr("hetfab.overlay.search.dask_workers._LOOK_SECONDS", 0.05)
    monkeypatch.setattr("hetfab.overlay.search.dask_workers._WITHOUT_WORKERS_SECONDS", 0.2)
    options: dict[str, Any] = {"protocol": "tcp://", "dashboard_address": None}
    with local(1, threads_per_worker=1, processes=False, **options) as found:
        with open_workers(Backend.DASK, cluster=found.scheduler_address) as opened:
            assert opened.call("one", square, 2) == 4
            found.scale(0)
            while found.scheduler.workers:
                time.sleep(0.01)
            with pytest.raises(ClusterUnreachableError, match="has no workers left, with 'two' to do"):
                evaluated(square, {"two": 2}, Journal(None, ""), opened)
        with pytest.raises(ClusterUnreachableError, match="has no workers"):
            open_workers(Backend.DASK, cluster=found.scheduler_address)


def test_clusters_need_workers_with_the_same_hetfab() -> None:
    own = importlib.metadata.version("hetfab")
    module.check_versions("c", {own})
    with pytest.raises(ClusterUnreachableError, match=r"workers of 'c' have hetfab 9\.9"):
        module.check_versions("c", {own, "9.9"})
    with pytest.raises(ClusterUnreachableError, match="the cluster 'c' has no workers"):
        module.check_versions("c", set())


@pytest.mark.parametrize(("backend", "package"), [(Backend.DASK, "distributed"), (Backend.RAY, "ray")])
def test_a_missing_package_is_named(backend: Backend, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(PackageMissingError):
        open_workers(backend, cluster="machine:1")


class _RayTaskError(Exception):
    def __init__(self, cause: Exception) -> None:
        super().__init__(cause)
        self.cause = cause


class _WorkerCrashedError(Exception):
    pass


def _stand_in_ray() -> Any:
    """As much of ray as is called: a remote function computes here, one that is asked for 13 has no worker left."""
    ray = types.ModuleType("ray")
    unused = {name: type(name, (Exception,), {}) for name in ("NodeDiedError", "OutOfMemoryError")}
    table: dict[str, Any] = {"RayTaskError": _RayTaskError, "WorkerCrashedError": _WorkerCrashedError, **unused}

    class Remote:
        def __init__(self, function: Any) -> None:
            self.function = function

        def options(self, name: str) -> "Remote":
            return self

        def remote(self, function: Any, job: Any) -> Any:
            return lambda: self.function(function, job)

    def get(waiting: Any) -> Any:
        try:
            return waiting()
        except HetfabError as error:
            raise _RayTaskError(error) from error
        except SystemExit as error:
            raise _WorkerCrashedError from error

    vars(ray).update(
        exceptions=types.SimpleNamespace(**table),
        init=lambda address, **options: None,
        shutdown=lambda: None,
        cluster_resources=lambda: {"CPU": 2.0},
        remote=lambda **options: Remote,
        get=get,
    )
    return ray


def test_ray_is_called_as_its_interface_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", _stand_in_ray())
    with open_workers(Backend.RAY, cluster="auto") as found:
        assert found.count == 2
        assert evaluated(square, jobs(3), Journal(None, ""), found)["job 2"] == 4
        with pytest.raises(SearchInvalidError):
            evaluated(refused, jobs(2), Journal(None, ""), found)
        with pytest.raises(WorkerDiedError, match="3 workers died while they computed 'job 1'"):
            evaluated(left, jobs(3), Journal(None, ""), found)
