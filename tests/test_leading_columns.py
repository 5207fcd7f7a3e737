# SPDX-License-Identifier: Apache-2.0
"""Features of which some columns lead: these are multiplied as rows, AGG sums the others' non-zeros; no bit changes."""

import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetfab.cli.main import main
from hetfab.driver.flows import compare_flows
from hetfab.driver.graph.arrays import graph_arrays
from hetfab.driver.graph.facts import graph_facts
from hetfab.driver.graph.heterograph import CsrFeatures, FeatureTable, HeteroGraph
from hetfab.driver.graph.model_inputs import model_bindings
from hetfab.driver.graph.npz import write_graph
from hetfab.driver.stored_tensors import tensor_values
from hetfab.overlay.bind import BoundProgram, bind
from hetfab.overlay.compiler.compile import compile_lowered
from hetfab.overlay.compiler.dataflow import compile_stages
from hetfab.overlay.compiler.first_projection import FirstProjection, choose_projections
from hetfab.overlay.compiler.graph_facts import FeatureCounts, GraphFacts
from hetfab.overlay.compiler.layer_ends import Sum
from hetfab.overlay.compiler.leading_columns import Joined, best_leading, can_lead, readers, with_leading
from hetfab.overlay.compiler.lowered import IntArray, LoweredModel, Table
from hetfab.overlay.compiler.model_plan import plan_model
from hetfab.overlay.compiler.projection_work import Work
from hetfab.overlay.costs.program_cost import expected_log
from hetfab.overlay.design import Design, default_design
from hetfab.overlay.errors import FormatVersionError, ProgramUnreadableError
from hetfab.overlay.isa.codec import ReduceSource, Segment
from hetfab.overlay.model.bound_model import BoundModel
from hetfab.overlay.program import Program, SymbolKind, read_program, write_program
from hetfab.overlay.timeline.machine import machine
from hetfab.overlay.timeline.simulate import simulate
from hetfab.quantize.widths import Widths
from tests.conftest import SMALL_GEOMETRY
from tests.programs import bound_to, design_of, quantized, run_emulated, run_golden
from tests.random_models import Case, ModelBuilder
from tests.test_attention_programs import AP, COUNTS, Model, additive, check, relation
from tests.test_first_projection import lowered_of, one_type, planned, projected, sum_case
from tests.test_whole_programs import Emulators, assert_equals_onnxruntime, assert_same_dram, natives

_WIDTH = 70
#: The small design's AGG multiplies by weights of edges, the default one's does not.
UNWEIGHTED = replace(SMALL_GEOMETRY, agg_weights=0)


@dataclass(frozen=True)
class Form:
    """How a first projection is computed.

    Attributes:
        leading: Columns that lead.
        parts: Into how many parts the others' non-zeros are split.
        weighted: Whether these have weights.
        seed: Draws the order of the columns.
    """

    leading: int
    parts: int = 1
    weighted: bool = False
    seed: int = 0


def joined(layers: LoweredModel, form: Form, features: str = "x_paper") -> LoweredModel:
    """A model's layers where columns of features lead."""
    order = np.random.default_rng(form.seed).permutation(layers.stored[features].channels)
    gathered = tuple(
        replace(layer, parts=form.parts, weighted=form.weighted)
        if layer.dense is not None and layer.dense.input.name == features
        else layer
        for layer in layers.layers
    )
    return with_leading(replace(layers, layers=gathered), features, order, form.leading)


def words(vertices: int, *, signed: bool, seed: int = 0) -> npt.NDArray[np.float32]:
    """Features of several magnitudes, half of them zero; the first row is empty."""
    random = np.random.default_rng(seed)
    low, high = (-9, 9) if signed else (0, 12)
    values = random.integers(low, high, (vertices, _WIDTH)) * (random.random((vertices, _WIDTH)) < 0.5)
    values[:1] = 0
    return values.astype(np.float32)


@cache
def case_of(*, signed: bool, channels: int = 24, widths: Widths = Widths()) -> Case:  # noqa: B008 - it is immutable
    return projected(one_type(words(40, signed=signed), 40), channels, widths=widths)


def bound_joined(case: Case, design: Design, form: Form) -> BoundProgram:
    layers = lowered_of(case.model, case.graph)
    return bound_to(compile_lowered(joined(layers, form), design), case.graph)


FORMS = [Form(64), Form(1), Form(_WIDTH - 1, weighted=True), Form(30, parts=3), Form(17, weighted=True)]


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("signed", [False, True])
def test_the_same_logits_in_golden_model_and_emulators(
    form: Form, signed: bool, default_emulators: Emulators, small_emulators: Emulators
) -> None:
    case = case_of(signed=signed)
    for emulators in (natives(default_emulators), natives(small_emulators)):
        design = design_of(emulators[0].geometry)
        if form.weighted and not design.geometry.agg_weights:
            continue
        bound = bound_joined(case, design, form)
        assert bound.program.layers[0].kind == "requantize"
        golden = run_golden(bound)
        assert_equals_onnxruntime(golden, bound, case.model, case.graph)
        for emulator in emulators:
            assert_same_dram(run_emulated(bound, emulator), golden, bound)


@pytest.mark.parametrize(
    ("widths", "channels"), [(Widths(4, 4), 40), (Widths(1, 8), 70), (Widths(2, 2), 40)], ids=["w4a4", "w1a8", "w2a2"]
)
def test_narrow_widths_and_several_passes(widths: Widths, channels: int, small_emulators: Emulators) -> None:
    """Bipolar weights, features two a byte."""
    case = case_of(signed=False, channels=channels, widths=widths)
    emulator = small_emulators["native"]
    bound = bound_joined(case, design_of(emulator.geometry), Form(33))
    executed = run_emulated(bound, emulator)
    assert_same_dram(executed, run_golden(bound), bound)
    assert_equals_onnxruntime(executed, bound, case.model, case.graph)


def test_checked_integers_and_ap_int(default_emulators: Emulators) -> None:
    case = case_of(signed=True)
    emulators = [default_emulators["native-debug"], default_emulators["ap_int"]]
    bound = bound_joined(case, design_of(emulators[0].geometry), Form(64))
    golden = run_golden(bound)
    for emulator in emulators:
        assert_same_dram(run_emulated(bound, emulator), golden, bound)


@st.composite
def drawn_tables(draw: st.DrawFn) -> FeatureTable:
    """Features for the columns of any case: empty rows and columns among them."""
    random = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    vertices = draw(st.integers(0, 9))
    present = random.random((vertices, _WIDTH)) < draw(st.sampled_from([0, 0.02, 0.3, 1]))
    present[:, random.permutation(_WIDTH)[: draw(st.integers(0, _WIDTH))]] = False
    values = (random.integers(-200, 200, (vertices, _WIDTH)) * present).astype(np.float32)
    if draw(st.booleans()):
        return values
    indptr = np.concatenate([[0], np.cumsum(present.sum(axis=1))]).astype(np.int64)
    return CsrFeatures(indptr, np.nonzero(present)[1], values[present], _WIDTH)


@settings(deadline=None, max_examples=15)
@given(
    drawn_tables(),
    st.booleans(),
    st.builds(Form, st.integers(1, _WIDTH - 1), st.integers(1, 3), st.just(False), st.integers(0, 99)),
    st.booleans(),
)
def test_any_features_give_the_logits_of_the_dense_form(
    table: FeatureTable, signed: bool, form: Form, weighted: bool
) -> None:
    case, design = case_of(signed=signed), design_of(SMALL_GEOMETRY)
    form = replace(form, parts=1 if weighted else form.parts, weighted=weighted)
    layers = lowered_of(case.model, case.graph)
    vertices = len(table) if isinstance(table, np.ndarray) else len(table.indptr) - 1
    graph = one_type(table, vertices)
    dense, other = (
        bind(program, graph_arrays(program, graph), side_by_side=True)
        for program in (compile_lowered(each, design) for each in (layers, joined(layers, form)))
    )
    expected, found = (bound.logits(run_golden(bound).dram[Segment.OUTPUT]) for bound in (dense, other))
    np.testing.assert_array_equal(found, expected)


def test_non_zeros_of_the_other_columns_in_parts() -> None:
    design = default_design("pynq-z2-graphs")
    case = case_of(signed=True, channels=64)
    layers = joined(lowered_of(case.model, case.graph), Form(30))
    plain = compile_lowered(layers, design)
    names = [edges.name for edges in plain.edges]
    program = compile_lowered(layers, design, row_source=ReduceSource.TAGS, in_parts=names)
    assert any(symbol.kind is SymbolKind.PARTS for symbol in program.symbols)
    bound = bound_to(program, case.graph)
    assert_equals_onnxruntime(run_golden(bound), bound, case.model, case.graph)


def test_results_that_are_entries_of_a_table(small_emulators: Emulators) -> None:
    case = case_of(signed=True)
    layers = lowered_of(case.model, case.graph)
    entries = np.random.default_rng(1).integers(0, 256, 1 << 7)
    first = replace(layers.layers[0], table=Table(7, False, entries))
    layers = replace(layers, layers=(first, *layers.layers[1:]))
    emulator = small_emulators["native"]
    design = design_of(emulator.geometry)
    dense, other = (
        bound_to(compile_lowered(each, design), case.graph)
        for each in (layers, joined(layers, Form(30, weighted=True)))
    )
    expected, found = (bound.logits(run_golden(bound).dram[Segment.OUTPUT]) for bound in (dense, other))
    np.testing.assert_array_equal(found, expected)
    assert_same_dram(run_emulated(other, emulator), run_golden(other), other)


def test_scores_of_attention() -> None:
    """Of 16 bits, from features that a layer of 8 bits reads as well."""
    model = Model(0)
    paper, author = model.features("paper"), model.features("author")
    over = additive(model, relation(AP), author, paper, 32, 2)
    lowered = model.finish(Sum(over.input.exponent, None, (over,)))
    assert {layer.output.bits for layer in readers(lowered, "x_author")} == {8, 16}
    assert can_lead(lowered, "x_author")
    check(model, joined(lowered, Form(40), "x_author"), model.attended(over, COUNTS["paper"]))


# What a program holds.


def small_program(form: Form = Form(30)) -> tuple[Case, Program]:
    case = case_of(signed=True)
    return case, compile_lowered(joined(lowered_of(case.model, case.graph), form), design_of(UNWEIGHTED))


def test_rows_hold_the_leading_columns_and_edges_the_others() -> None:
    case, program = small_program()
    bound = bound_to(program, case.graph)
    tensor, layer, (edges,) = program.tensor("x_paper"), program.layers[0], program.edges
    assert (tensor.segment, tensor.channels, tensor.leading, tensor.row_bytes) == ("features", _WIDTH, 30, 64)
    assert (edges.features, edges.table_rows) == ("x_paper", 2 * (_WIDTH - 30))
    assert (layer.inputs, layer.leading, layer.gathered) == (_WIDTH, 30, True)
    assert layer.channels_on_d + layer.channels_on_l == layer.channels
    assert set(layer.engines) == {"load", "gemm_d", "gemm_l", "agg", "vec", "store"}
    content = bound.contents[Segment.FEATURES][bound.offsets["x_paper"] :]
    rows = tensor_values(tensor, case.graph.counts["paper"], content)
    columns = sorted(tensor.channel_order[:30])
    np.testing.assert_array_equal(rows * tensor.scale, case.graph.dense_features("paper")[:, columns])


def rewritten(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A program's file with another header."""
    changed = path.with_name("changed.hfp")
    with zipfile.ZipFile(path) as given, zipfile.ZipFile(changed, "w") as made:
        for name in given.namelist():
            content = given.read(name)
            if name == "program.json":
                header = json.loads(content)
                change(header)
                content = json.dumps(header).encode()
            made.writestr(name, content)
    return changed


def test_a_program_is_written_and_read(tmp_path: Path) -> None:
    case, program = small_program()
    write_program(tmp_path / "a.hfp", program)
    assert bound_to(read_program(tmp_path / "a.hfp"), case.graph).hash() == bound_to(program, case.graph).hash()


def test_programs_of_the_version_without_leading_columns_are_refused(tmp_path: Path) -> None:
    write_program(tmp_path / "a.hfp", small_program()[1])

    def age(header: dict[str, Any]) -> None:
        header["format"] = "hetfab program 3"
        for each in (*header["tensors"], *header["layers"]):
            del each["leading"]

    with pytest.raises(FormatVersionError) as caught:
        read_program(rewritten(tmp_path / "a.hfp", age))
    found = f"the program '{tmp_path / 'changed.hfp'}' has version 3 of its format 'hetfab program'"
    assert caught.value.found == found
    assert caught.value.do == f"make it anew: hetfab compile model -o {tmp_path / 'changed.hfp'}"


@pytest.mark.parametrize("leading", [-1, _WIDTH, _WIDTH + 1])
def test_columns_that_cannot_lead_are_refused(leading: int, tmp_path: Path) -> None:
    write_program(tmp_path / "a.hfp", small_program()[1])

    def damage(header: dict[str, Any]) -> None:
        next(tensor for tensor in header["tensors"] if tensor["name"] == "x_paper")["leading"] = leading

    with pytest.raises(ProgramUnreadableError) as caught:
        read_program(rewritten(tmp_path / "a.hfp", damage))
    assert f"{leading} columns of 'x_paper' cannot lead its {_WIDTH}" in caught.value.found


def test_an_accelerator_with_weights_of_its_own_takes_no_leading_columns() -> None:
    case = case_of(signed=False)
    layers = lowered_of(case.model, case.graph)
    with pytest.raises(ValueError, match="columns of x_paper lead, and a stage takes whole rows"):
        compile_stages(joined(layers, Form(30)), default_design("zcu104"))


# What is chosen, and why.


def uneven(vertices: int, width: int, frequent: int) -> CsrFeatures:
    """Rows with most of the frequent columns, which lie scattered, and few of the others."""
    random = np.random.default_rng(0)
    often = np.isin(np.arange(width), random.permutation(width)[:frequent])
    present = random.random((vertices, width)) < np.where(often, 0.6, 3 / width)
    indptr = np.concatenate([[0], np.cumsum(present.sum(axis=1))]).astype(np.int64)
    return CsrFeatures(indptr, np.nonzero(present)[1], np.ones(int(present.sum()), np.float32), width)


@cache
def uneven_case() -> tuple[Any, HeteroGraph]:
    graph = one_type(uneven(300, 2000, 60), 300)
    return projected(graph).model, graph


def test_frequent_columns_lead_where_that_is_faster() -> None:
    model, graph = uneven_case()
    design = design_of(UNWEIGHTED)
    plan = planned(model, graph, design, FirstProjection.AUTO)
    (found,) = plan.projections
    assert found.dense is not None and found.by_nonzeros is not None and found.joined is not None
    others = min(found.dense.milliseconds, found.by_nonzeros.milliseconds)
    assert found.joined.milliseconds < others
    assert found.reason == f"faster by {others / found.joined.milliseconds:.1f} times, modelled"
    assert (found.leading, found.parts) == (64, 1)
    assert plan.tables()[0][1][0][2] == "64 columns dense, others sparse"
    (tensor,) = (each for each in plan.lowered.stored.values() if each.origin == "features")
    counts = np.count_nonzero(graph.dense_features("paper"), axis=0)
    assert tensor.order is not None and (np.diff(counts[tensor.order]) <= 0).all()
    bound = bound_to(compile_lowered(plan.lowered, design), graph)
    assert_equals_onnxruntime(run_golden(bound), bound, model, graph)


@pytest.mark.parametrize("asked", [FirstProjection.DENSE, FirstProjection.SPARSE])
def test_no_column_leads_where_another_form_is_asked_for(asked: FirstProjection) -> None:
    model, graph = uneven_case()
    (found,) = planned(model, graph, design_of(UNWEIGHTED), asked).projections
    assert (found.leading, found.joined, found.parts) == (0, None, int(asked is FirstProjection.SPARSE))


@cache
def frequent_case() -> tuple[onnx.ModelProto, HeteroGraph, Design]:
    """Rows are faster than non-zeros, both together fastest; weights are too long for a stage."""
    graph = one_type(uneven(300, 2000, 300), 300)
    return projected(graph, 64).model, graph, default_design("pynq-z2")


def test_an_accelerator_takes_the_faster_of_rows_and_non_zeros(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, graph, design = frequent_case()
    (found,) = planned(model, graph, design, FirstProjection.AUTO).projections
    assert found.dense is not None and found.by_nonzeros is not None
    assert found.leading and found.dense.milliseconds < found.by_nonzeros.milliseconds
    onnx.save(model, tmp_path / "m.q.onnx")
    write_graph(tmp_path / "graph.npz", graph)
    options = ["--flow", "dataflow", "--board", "pynq-z2", "--graph", str(tmp_path / "graph.npz")]
    built = ["build", str(tmp_path / "m.q.onnx"), *options, "-o", str(tmp_path / "b"), "--dry-run", "--json"]
    assert main(built) == 0
    program = read_program(Path(json.loads(capsys.readouterr().out)["program"]))
    assert not program.layers[0].gathered and not program.edges


def test_compile_chooses_once_and_lists_no_features_as_rearranged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, graph = uneven_case()
    calls = []

    def counted(*given: Any, **options: Any) -> Any:
        calls.append(given)
        return choose_projections(*given, **options)

    monkeypatch.setattr("hetfab.overlay.compiler.model_plan.choose_projections", counted)
    onnx.save(model, tmp_path / "m.q.onnx")
    write_graph(tmp_path / "graph.npz", graph)
    arguments = ["--graph", str(tmp_path / "graph.npz"), "--rows", "auto", "-o", str(tmp_path / "m.hfp"), "--json"]
    assert main(["compile", str(tmp_path / "m.q.onnx"), *arguments]) == 0
    (features,) = (each for each in read_program(tmp_path / "m.hfp").tensors if each.name == "x_paper")
    assert features.leading and features.channel_order
    assert json.loads(capsys.readouterr().out)["reordered"] == []
    assert len(calls) == 1


def test_flows_are_compared_with_an_accelerator_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    model, graph, design = frequent_case()
    monkeypatch.setattr("hetfab.driver.flows.board_names", lambda: [design.board])
    (_, found) = compare_flows(BoundModel(model, model_bindings(model, graph)), graph)
    rows = planned(model, graph, design, FirstProjection.DENSE).lowered
    bound = bound_to(compile_stages(rows, design), graph)
    expected = simulate(bound.words, expected_log(bound), machine(bound.program.design)).milliseconds
    assert (found.flow, found.milliseconds) == ("dataflow", expected)


def test_no_column_leads_where_only_numbers_of_features_are_known() -> None:
    model, graph = uneven_case()
    layers = lowered_of(model, graph)
    entries = int(np.count_nonzero(graph.dense_features("paper")))
    counts = FeatureCounts(2000, entries, float(entries), uniform=True)
    facts = GraphFacts("numbers", {"paper": 300}, {"paper": counts}, {})
    (found,) = plan_model(layers, design_of(UNWEIGHTED), facts).projections
    assert found.leading == 0


def test_no_column_leads_where_features_are_read_otherwise() -> None:
    """By a layer that adds means to its product, and as rows that are averaged."""
    case = sum_case()
    layers = lowered_of(case.model, case.graph)
    assert can_lead(layers, "x_author")
    assert not can_lead(layers, "x_paper")
    builder = ModelBuilder(np.random.default_rng(0), case.graph)
    rows = builder.features("author")
    terms = [builder.dense(rows, case.graph.dense_features("author").shape[1]), rows]
    means = [builder.mean(each, "writes", "paper") for each in terms]
    model = quantized(Case(builder.finish(builder.total(means)), case.graph)).model
    assert not can_lead(lowered_of(model, case.graph), "x_author")


def twice(layers: LoweredModel) -> LoweredModel:
    """A model whose first layer is there again."""
    first = layers.layers[0]
    again = replace(first, output=replace(first.output, name="again"))
    return replace(
        layers,
        layers=(first, again, *layers.layers[1:]),
        stored={**layers.stored, "again": again.output},
        node_types={**layers.node_types, "again": "paper"},
    )


def test_a_layer_that_alone_loses_by_the_columns_says_why_they_lead(monkeypatch: pytest.MonkeyPatch) -> None:
    model, graph = uneven_case()
    both, design = twice(lowered_of(model, graph)), design_of(UNWEIGHTED)
    facts = graph_facts(graph, both)
    first, again = plan_model(both, design, facts, may_lead=False).projections
    assert first.by_nonzeros is not None and again.by_nonzeros is not None
    taken = first.by_nonzeros.milliseconds + again.by_nonzeros.milliseconds

    def columns(counts: IntArray, *_: object) -> Joined:
        works = {first.layer: work(taken * 0.55, 0), again.layer: work(taken * 0.2, 0)}
        return Joined(np.argsort(-counts, kind="stable"), 64, works)

    monkeypatch.setattr("hetfab.overlay.compiler.first_projection.best_leading", columns)
    reasons = [each.reason for each in plan_model(both, design, facts).projections]
    assert reasons == [
        "with the other layers that read its features, faster by 1.3 times, modelled",
        "faster by 2.5 times, modelled",
    ]


def test_all_layers_that_read_features_share_the_columns() -> None:
    model, graph = uneven_case()
    both = twice(lowered_of(model, graph))
    first, design = both.layers[0], design_of(UNWEIGHTED)
    plan = plan_model(both, design, graph_facts(graph, both))
    assert [each.leading for each in plan.projections] == [64, 64]
    bound = bound_to(compile_lowered(plan.lowered, design), graph)
    activations = run_golden(bound).dram[Segment.ACTIVATIONS]
    size = 300 * bound.program.tensor("again").row_bytes
    one, other = (activations[bound.offsets[name] :][:size] for name in (first.output.name, "again"))
    np.testing.assert_array_equal(one, other)


class Tries:
    """An invented layer by its leading columns, of a time alone and one of AGG; and which were asked for."""

    def __init__(self, milliseconds: Mapping[int, tuple[float, float] | None]) -> None:
        self.asked: list[int] = []
        self._milliseconds = milliseconds

    def __call__(self, order: IntArray, leading: int) -> dict[str, Work] | None:
        self.asked.append(leading)
        found = self._milliseconds[leading]
        return None if found is None else {"layer": work(*found)}


def work(milliseconds: float, agg: float) -> Work:
    return Work(0, 0, 0, milliseconds, agg_milliseconds=agg, core_milliseconds=0)


#: Of 1,000 columns, the first ones hold most of the non-zeros: by estimate 256 lead best.
NONZEROS = np.concatenate([np.full(256, 30), np.full(744, 3)])


@pytest.mark.parametrize(
    ("milliseconds", "asked", "leading"),
    [
        ({192: (4, 0), 256: (3, 0), 384: (3.5, 0)}, {192, 256, 384}, 256),
        # Alone a little faster, but with more work for the engines.
        ({192: (4, 4), 256: (3, 2), 384: (2.9, 3)}, {192, 256, 384}, 256),
        ({192: (4, 4), 256: (3, 3), 384: (3.1, 2), 512: (4, 2)}, {192, 256, 384, 512}, 384),
        # Beyond the estimate, until it costs more.
        ({256: (3, 0), 384: (2.5, 0), 512: (2, 0), 768: (2.2, 0)}, {256, 384, 512, 768}, 512),
        ({128: (2.8, 0), 192: (2.5, 0), 256: (3, 0), 384: (3.5, 0)}, {128, 192, 256, 384}, 192),
        # A buffer is too small.
        ({192: (4, 0), 256: None, 384: (3, 0), 512: (5, 0)}, {256, 384, 512}, 384),
        # For the estimate and both neighbours: from the largest below that fits on.
        ({256: None, 384: None, 192: None, 128: (4, 0), 64: (5, 0)}, {64, 128, 192, 256, 384}, 128),
        ({256: None, 384: None, 192: None, 128: (4, 0), 64: (3, 0)}, {64, 128, 192, 256, 384}, 64),
        ({256: None, 384: None, 192: None, 128: None, 64: None}, {64, 128, 192, 256, 384}, None),
        # Never faster than what is taken, or never by a tenth of its cost.
        ({192: (12, 0), 256: (11, 0), 384: (13, 0)}, {192, 256, 384}, None),
        ({192: (4, 12), 256: (3, 12), 384: (3.5, 12)}, {192, 256, 384}, None),
        ({192: (4, 12), 256: (3, 11.9), 384: (3.5, 12)}, {192, 256, 384}, 256),
    ],
)
def test_sizes_are_tried_around_the_estimate(
    milliseconds: dict[int, tuple[float, float] | None], asked: set[int], leading: int | None
) -> None:
    tries = Tries(milliseconds)
    found = best_leading(NONZEROS, 10.0, 10.0, [work(10, 10)], tries)
    assert (None if found is None else found.leading) == leading
    assert set(tries.asked) <= asked and len(tries.asked) == len(set(tries.asked))


def test_nothing_is_tried_where_the_estimate_is_slower() -> None:
    """Even columns, of which the cores would take as long as they leave AGG."""
    tries = Tries({})
    assert best_leading(np.ones(1000, np.int64), 100.0, 1.0, [work(1, 1)], tries) is None
    assert not tries.asked
