# SPDX-License-Identifier: Apache-2.0
"""``hetfab search`` beside N3H-Core's way (DDPG), random search and uniform W4A4, at the same accuracy bound.

All take the same options, the same cost functions and the same boards. The bound is what uniform W4A4 loses, at least
half a point of micro F1 on the validation nodes; of ResNet-18, whose weights are seeded, a point is a hundredth of a
nat. What each method finds is timed by the timeline simulator; everything is modelled. DDPG is told how fast the search
was: the target of its three seeds is 1.1 times that. Episodes that it does not score are scored afterwards where they
might count. Random search has as many seeds and episodes. Of each seed the fastest few that keep the bound are timed,
each as it is, with the base's other buffers, and with the best of the largest ones: of memories other than AGG's
scratchpad the cost functions know nothing. DDPG's accuracy evaluations are episodes whose accuracy it asks for, as the
published software measures each; how many had different widths stands beside them.

Results are kept in a folder, evaluation by evaluation: a run that was stopped goes on. Their names hold a hash of the
code and the files that they depend on, so that others are computed anew. ``--small`` runs the demo's model without DDPG
in seconds.
"""

import hashlib
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx

from benchmarks.image_networks import resnet18
from benchmarks.kept_rows import code_identity
from benchmarks.report import Report, argument_parser, publish
from hetfab.cli.model_search import ModelSearch
from hetfab.cli.search_jobs import Source
from hetfab.driver.demo import model_path
from hetfab.driver.graph.generate import academic
from hetfab.driver.graph.npz import write_graph
from hetfab.overlay.design import Design
from hetfab.overlay.files import write_atomic
from hetfab.overlay.search.environment import EPISODES, DesignEnvironment, Episode, Setting, random_search
from hetfab.overlay.search.joint import JointSearch
from hetfab.overlay.search.journal import Journal
from hetfab.overlay.search.knapsack import Group, Problem, Tie, best
from hetfab.overlay.search.options import Choice
from hetfab.overlay.search.points import Goal, Point
from hetfab.overlay.search.workers import open_workers

MODELS = ("acm_rgcn", "imdb_simplehgn", "dblp_rgat", "resnet18")
BOARDS = ("pynq-z2", "zcu104")
_LEAST_BOUND = 0.5
#: Of DDPG's target over the time of the search, for all seeds; less would ask for what nothing may reach.
_TARGET, _SEEDS = 1.1, 3
_UNIFORM_BITS = 4
#: Of a method's designs that keep the bound, the fastest by the cost functions, which are timed as whole programs.
_TIMED = 3
#: Of the memories of its arrays of which none can be deeper, those that each is timed with.
_MEMORIES = 2
_SAMPLES = 2
_METHODS = ("search", "uniform", "random", "ddpg")
_INNER_LAYERS, _INNER_OPTIONS, _INNER_TIES = 150, 64, 50


@dataclass(frozen=True)
class Case:
    """A model on a board."""

    model: str
    board: str

    @property
    def name(self) -> str:
        """Key of the results."""
        return f"{self.model}.{self.board}"


class Comparison:
    """All methods on one case; each result is in the folder as soon as it is there."""

    def __init__(self, case: Case, folder: Path, episodes: int, workers: int, say: Callable[[str], None]) -> None:
        self.case, self.episodes, self._say = case, episodes, say
        self._source, self._pool = _source(case.model, folder), open_workers(count=workers)
        self._stem = folder / f"{case.name}.{_hash_of(self._source)[:16]}"
        self._path = self._stem.with_name(f"{self._stem.name}.json")
        self.results: dict[str, Any] = json.loads(self._path.read_text()) if self._path.exists() else {}
        self._found: ModelSearch | None = None

    def run(self, methods: Sequence[str]) -> None:
        """Runs the methods that have no result yet; the search comes first, since DDPG's targets are from it."""
        actions = {"search": self._search, "uniform": self._uniform, "random": self._random, "ddpg": self._ddpg}
        needed = {"bound", *methods} | ({"search"} if "ddpg" in methods else set())
        with self._pool:
            for method, action in ({"bound": self._bound} | actions).items():
                if method in needed and not self._has(method):
                    begin = time.perf_counter()
                    found = action()
                    spent = {"seconds": time.perf_counter() - begin, "code": code_identity()[:16]}
                    self._keep(method, found | spent)

    def _has(self, method: str) -> bool:
        """Whether there is a result, with as many episodes as asked for where a method has some."""
        found = self.results.get(method)
        return found is not None and found.get("episodes", self.episodes) == self.episodes

    def _keep(self, method: str, found: dict[str, Any]) -> None:
        self.results[method] = found
        text = json.dumps(self.results).encode()

        def write(file: BinaryIO) -> None:
            file.write(text)

        write_atomic(self._path, write)
        self._say(f"{self.case.name} {method}: " + ", ".join(f"{k} {v}" for k, v in found.items() if _is_short(v)))

    @property
    def _model(self) -> ModelSearch:
        if self._found is None:
            found = ModelSearch.open([self._source], self.case.board, workers=self._pool)
            found.by_divergence = self._source.workload.name == "samples.npz"
            journal = Journal(self._stem.with_name(f"{self._stem.name}.journal"), found.identity())
            found.prepare(journal, lambda: None)
            self._found = found
        return self._found

    @property
    def _joint(self) -> JointSearch:
        return self._model.joint

    def _bound(self) -> dict[str, Any]:
        uniform = self._uniform_choice
        score = self._drop(uniform.weights, uniform.tensors)
        return {
            "uniform_drop": score,
            "drop": max(score, _LEAST_BOUND),
            "sensitivity_evaluations": self._model.sensitivity_evaluations,
        }

    @property
    def _most(self) -> float:
        return float(self.results["bound"]["drop"])

    def _search(self) -> dict[str, Any]:
        found = self._joint.run(Goal(drop=self._most))
        (choice,) = found.point.choices
        return {
            "milliseconds": found.point.time,
            "cost_function_milliseconds": found.point.milliseconds,
            "gap": found.point.gap,
            "drop": found.point.drop,
            "accuracy_evaluations": found.full_evaluations,
            "knapsacks": found.solved,
            "designs": found.designs,
            "weights": dict(choice.weights),
            "tensors": dict(choice.tensors),
            "geometry": _sizes(found.point.design),
        }

    @property
    def _uniform_choice(self) -> Choice:
        return self._joint.models[0].uniform(self._joint.space.base, _UNIFORM_BITS)

    def _uniform(self) -> dict[str, Any]:
        """On the fastest designs for it, and on the one that all come from if the board holds it."""
        choice, joint = self._uniform_choice, self._joint
        space = joint.space
        ranked = [joint.designs[number] for number in np.argsort(joint.spent([choice]), kind="stable")[:_TIMED]]
        bases = [space.base] if space.holds(space.base) else []
        designs = [*bases, *(each for near in ranked for each in space.largest_memories(near)[:_MEMORIES])]
        times = [self._time(design, choice) for design in designs]
        fastest = int(np.argmin(times))
        return {
            "milliseconds": times[fastest],
            "base_design_milliseconds": times[0] if bases else None,
            "drop": self._drop(choice.weights, choice.tensors),
            "geometry": _sizes(designs[fastest]),
        }

    def _random(self) -> dict[str, Any]:
        """The fastest of all seeds within the bound; the slower ones need not be scored."""
        never = Setting(self._joint.space, self._joint.models[0], -1.0, lambda weights, tensors: 0.0)
        runs = [random_search(DesignEnvironment(never), seed, self.episodes) for seed in range(_SEEDS)]
        scores = dict[str, float]()
        found = min((self._fastest(run, scores) for run in runs), key=lambda each: each["milliseconds"])
        curves = [[[e.milliseconds, scores.get(_widths(e)), _sizes(e.design)] for e in run] for run in runs]
        return found | {"episodes": self.episodes, "seeds": _SEEDS, "curves": curves}

    def _ddpg(self) -> dict[str, Any]:
        seeds = []
        for seed in range(_SEEDS):
            key = f"ddpg seed {seed}"
            if not self._has(key):
                begin = time.perf_counter()
                self._keep(key, self._ddpg_seed(seed) | {"seconds": time.perf_counter() - begin})
            seeds.append(self.results[key])
        best = min(seeds, key=lambda found: found["milliseconds"])
        return {
            "milliseconds": best["milliseconds"],
            "drop": best["drop"],
            "seed": seeds.index(best),
            "episodes": self.episodes,
            "accuracy_evaluations": best["accuracy_evaluations"],
            "distinct_accuracy_evaluations": best["distinct_accuracy_evaluations"],
            "all_accuracy_evaluations": sum(found["accuracy_evaluations"] for found in seeds),
        }

    def _ddpg_seed(self, seed: int) -> dict[str, Any]:
        from hetfab.overlay.search.ddpg import search

        target = _TARGET * float(self.results["search"]["cost_function_milliseconds"])
        environment = DesignEnvironment(Setting(self._joint.space, self._joint.models[0], target, self._drop))
        said = time.perf_counter()

        def ended(episode: Episode) -> None:
            nonlocal said
            count = len(environment.episodes)
            if time.perf_counter() - said > 60 or count == self.episodes:
                said = time.perf_counter()
                self._say(f"{self.case.name} seed {seed}: episode {count}, reward {episode.reward:.3f}")

        episodes = search(environment, seed, self.episodes, ended)
        return self._fastest(episodes, {}) | {
            "target": target,
            "episodes": self.episodes,
            "accuracy_evaluations": sum(e.drop is not None for e in episodes),
            "distinct_accuracy_evaluations": len({_widths(e) for e in episodes if e.drop is not None}),
            "curve": [[e.milliseconds, e.drop, e.reward, _sizes(e.design)] for e in episodes],
        }

    def _fastest(self, episodes: Sequence[Episode], scores: dict[str, float]) -> dict[str, Any]:
        """The fastest within the bound by whole programs, of the first few by the cost functions; notes new scores."""
        kept: list[dict[str, Any]] = []
        several = {(each.design, _widths(each)): each for each in episodes}
        for episode in sorted(several.values(), key=lambda each: each.milliseconds):
            drop = episode.drop
            if drop is None:
                drop = scores[_widths(episode)] = self._drop(episode.weights, episode.tensors)
            if drop <= self._most:
                choice = Choice(episode.weights, episode.tensors, 0.0, 0.0)
                spent, design = min(self._timed(episode.design, choice), key=lambda pair: pair[0])
                sizes = {"geometry": _sizes(design), "weights": dict(choice.weights)}
                kept.append({"milliseconds": spent, "drop": drop, "tensors": dict(choice.tensors), **sizes})
            if len(kept) == _TIMED:
                break
        return min(kept, key=lambda each: each["milliseconds"]) if kept else {"milliseconds": math.inf, "drop": None}

    def _timed(self, design: Design, choice: Choice) -> list[tuple[float, Design]]:
        """Times on a design, and on its arrays with memories that earn no reward: the base's, and the largest ones."""
        joint, space = self._joint, self._joint.space
        largest = joint.memories(Point(design, (choice,), 0.0, ()))[:_MEMORIES]
        several = dict.fromkeys((design, space.with_base_buffers(design), *largest))
        return [(self._time(each, choice), each) for each in several if space.holds(each)]

    def _drop(self, weights: Any, tensors: Any) -> float:
        return self._joint.score(0, Choice(weights, tensors, 0.0, 0.0)).drop

    def _time(self, design: Design, choice: Choice) -> float:
        return self._joint.time(design, [choice])[0]


def _widths(episode: Episode) -> str:
    return repr((sorted(episode.weights.items()), sorted(episode.tensors.items())))


def _sizes(design: Design) -> list[int]:
    g = design.geometry
    arrays = [g.gemm_d_rows, g.gemm_d_cols, g.gemm_l_rows, g.gemm_l_cols]
    memories = [g.wgt_d_words, g.wgt_l_words, g.act_d_words, g.act_l_words, g.out_words]
    return [*arrays, *memories, g.agg_word_beats, g.feature_words]


def _is_short(value: object) -> bool:
    several = value if isinstance(value, list) else [value]
    return len(several) < 12 and all(isinstance(each, float | int) for each in several)


def _hash_of(source: Source) -> str:
    """Of all that results depend on: code and the case's files."""
    found = hashlib.sha256(code_identity().encode())
    for path in (source.model, source.workload):
        found.update(path.read_bytes())
    return found.hexdigest()


def _source(model: str, folder: Path) -> Source:
    """Files of a model; those of the demo and of ResNet-18 are made here."""
    if model == "demo":
        if not (folder / "demo.npz").exists():
            write_graph(folder / "demo.npz", academic())
        return Source(model_path(), folder / "demo.npz")
    if model == "resnet18":
        path, samples = folder / "resnet18.onnx", folder / "samples.npz"
        if not path.exists():
            onnx.save(resnet18(), path)
        if not samples.exists():
            images = np.random.default_rng(0).normal(0, 1, (_SAMPLES, 3, 224, 224)).astype(np.float32)
            np.savez(samples, samples=images)
        return Source(path, samples)
    data = Path(os.environ["HETFAB_DATA"])
    return Source(data / "models" / f"{model}.onnx", data / model.partition("_")[0] / "graph.npz")


def inner_seconds() -> float:
    """The inner problem of 150 layers with 64 options each, of which 50 pairs must agree."""
    random = np.random.default_rng(0)
    groups = tuple(
        Group(f"layer {number}", random.random(_INNER_OPTIONS), {"ms": random.random(_INNER_OPTIONS)})
        for number in range(_INNER_LAYERS)
    )
    labels = [option % 2 for option in range(_INNER_OPTIONS)]
    ties = tuple(Tie({number: labels, number + _INNER_TIES: labels}) for number in range(_INNER_TIES))
    begin = time.perf_counter()
    assert best(Problem(groups, {"ms": 0.2 * _INNER_LAYERS}, ties))
    return time.perf_counter() - begin


def summary(cases: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Speedups and evaluations over all cases that have the results for them."""
    values: dict[str, Any] = {}
    for other in _METHODS[1:]:
        ratios = {
            name: found[other]["milliseconds"] / found["search"]["milliseconds"]
            for name, found in cases.items()
            if other in found and "search" in found and math.isfinite(found[other]["milliseconds"])
        }
        if ratios:
            values[f"speedup_over_{other}"] = statistics.geometric_mean(ratios.values())
            values[f"least_speedup_over_{other}"] = min(ratios.values())
            values[f"speedups_over_{other}"] = ratios
    searched = [found for found in cases.values() if "search" in found]
    if searched:
        values["accuracy_evaluations"] = max(found["search"]["accuracy_evaluations"] for found in searched)
        values["sensitivity_evaluations"] = max(found["bound"]["sensitivity_evaluations"] for found in searched)
        values["seconds"] = sum(found["search"]["seconds"] + found["bound"]["seconds"] for found in searched)
    played = [found for found in searched if "ddpg" in found]
    if played:
        # What the search scores is distinct; an agent asks again for widths that it knows.
        counts = {"_distinct": "distinct_accuracy_evaluations", "": "accuracy_evaluations", "_episodes": "episodes"}
        for name, of in counts.items():
            # A seed that is never within the target asks for none.
            shares = [
                found["search"]["accuracy_evaluations"] / found["ddpg"][of] for found in played if found["ddpg"][of]
            ]
            values[f"evaluation_share_of_ddpg{name}"] = max(shares, default=None)
        asked = [found["ddpg"]["accuracy_evaluations"] > 0 for found in played]
        values["ddpg_within_target"] = sum(asked) / len(asked)
        distinct = [found["ddpg"]["distinct_accuracy_evaluations"] for found in played]
        values["distinct_accuracy_evaluations_of_ddpg"] = min(distinct)
        both = [found for found in played if "random" in found]
        better = [found["ddpg"]["milliseconds"] < found["random"]["milliseconds"] for found in both]
        values["ddpg_beats_random"] = sum(better) / len(better) if better else None
    return values


def report(cases: dict[str, dict[str, Any]], inner: float) -> Report:
    """The figures of all cases."""
    rows = [
        [name, *(f"{found[m]['milliseconds']:.4g}" if m in found else "-" for m in _METHODS), found["bound"]["drop"]]
        for name, found in cases.items()
    ]
    finite = json.loads(json.dumps(cases), parse_constant=lambda text: None)
    values = summary(cases) | {"inner_seconds": inner, "cases": finite}
    return Report("ms at the same accuracy bound, modelled", ("case", *_METHODS, "most points lost"), rows, values)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    parser = argument_parser(__doc__)
    parser.add_argument("--only", default="", help="cases whose name (MODEL.BOARD) holds this")
    parser.add_argument("--methods", default=",".join(_METHODS), help="methods, separated by commas")
    parser.add_argument("--episodes", type=int, default=EPISODES, help="of DDPG and random search, for each seed")
    parser.add_argument("--workers", type=int, default=1, help="processes that measure single changes")
    parser.add_argument("--folder", type=Path, default=Path("build/benchmark-search"), help="where results are kept")
    parser.add_argument("--small", action="store_true", help="the demo's model, without DDPG unless --methods names it")
    given = parser.parse_args(arguments)
    given.folder.mkdir(parents=True, exist_ok=True)
    models, boards = (("demo",), BOARDS[:1]) if given.small else (MODELS, BOARDS)
    methods = given.methods.split(",")
    if unknown := {*methods} - {*_METHODS}:
        parser.error(f"--methods has {', '.join(sorted(unknown))}; there are {', '.join(_METHODS)}")
    if given.small and given.methods == ",".join(_METHODS):
        methods.remove("ddpg")
    cases: dict[str, dict[str, Any]] = {}
    for case in (Case(model, board) for model in models for board in boards):
        if given.only in case.name:
            comparison = Comparison(case, given.folder, given.episodes, given.workers, _say)
            comparison.run(methods)
            cases[case.name] = comparison.results
    publish(report(cases, inner_seconds()), given.as_json)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
