# SPDX-License-Identifier: Apache-2.0
"""The bodies of quantized attention operators take the integer steps of the definition, in onnxruntime."""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper
import pytest

from hetfab.overlay.isa.arithmetic import mean_q8, reciprocals
from hetfab.overlay.isa.normalization import normalize, normalized, root_table
from hetfab.overlay.model import hgnn
from hetfab.overlay.model.reader import check_model
from hetfab.overlay.model.runtime import run_model

Array = npt.NDArray[Any]
Feed = dict[str, Any]
SCALE = 2.0**-5
KINDS = {"float32": onnx.TensorProto.FLOAT, "int64": onnx.TensorProto.INT64}


def run(operator: str, given: Feed, **values: Any) -> Array:
    """One operator's result in onnxruntime; the checker accepts the model."""
    feed = {name: np.asarray(array) for name, array in given.items()}
    node = onnx.helper.make_node(operator, list(feed), ["y"], domain=hgnn.DOMAIN, **values)
    inputs = [
        onnx.helper.make_tensor_value_info(name, KINDS[array.dtype.name], [None] * array.ndim)
        for name, array in feed.items()
    ]
    output = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [None, None])
    imports = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid(hgnn.DOMAIN, hgnn.DOMAIN_VERSION)]
    graph = onnx.helper.make_graph([node], "one", inputs, [output])
    model = onnx.helper.make_model(graph, opset_imports=imports, ir_version=10, functions=[hgnn.function(operator)])
    return run_model(check_model(model, operator), feed, ["y"])[0]


def steps(found: Array, scale: float = SCALE / 256) -> Array:
    """Whole numbers of steps; fails where they are not whole."""
    whole = np.rint(found / scale)
    np.testing.assert_array_equal(whole * scale, found)
    return whole.astype(np.int64)


def attention(logits: list[list[Array]], rows: list[list[Array]]) -> Array:
    """Attention by its definition, from each destination's logits [heads] and rows [heads, channels] of its edges."""
    result: list[Array | None] = []
    for of_edges, values in zip(logits, rows, strict=True):
        if not of_edges:
            result.append(None)
            continue
        each = np.array(of_edges)
        weights = np.floor(4095 * np.exp((each - each.max(axis=0)) / 256) + 0.5).astype(np.int64)
        numerator, denominator = (weights[:, :, None] * np.array(values)).sum(axis=0), weights.sum(axis=0)[:, None]
        result.append((512 * numerator + denominator) // (2 * denominator))
    some = next(each for each in result if each is not None)
    return np.array([np.zeros_like(some) if each is None else each for each in result]).reshape(len(result), -1)


def limited(values: Array) -> Array:
    return np.clip(values, -(1 << 15), (1 << 15) - 1)


def leaky(sums: Array, slope: float) -> Array:
    return np.where(sums >= 0, sums, (sums * round(slope * 4096) + 2048) >> 12)


class Edges:
    """Random edges with duplicates; destination 0 has none."""

    def __init__(self, random: np.random.Generator, sources: int, destinations: int, number: int) -> None:
        self.source = random.integers(0, sources, number)
        self.destination = random.integers(1, destinations, number)
        self.types = random.integers(0, 3, number)
        self.count = destinations

    def feed(self) -> Feed:
        return {"src": self.source, "dst": self.destination}

    def by_destination(self, values: Array) -> list[list[Array]]:
        return [list(values[self.destination == row]) for row in range(self.count)]


@pytest.mark.parametrize("typed", [False, True])
@pytest.mark.parametrize("slope", [0.2, 0.0, 1.0])
@pytest.mark.parametrize("span", [40, 900, 32767])
def test_additive_attention(typed: bool, slope: float, span: int) -> None:
    random = np.random.default_rng(span)
    edges, heads = Edges(random, 11, 7, 60), 3
    z = random.integers(-128, 128, (11, heads, 5))
    of_source, of_destination, of_type = (random.integers(-span, span + 1, (rows, heads)) for rows in (11, 7, 3))
    feed: Feed = {"z": (z.reshape(11, -1) * SCALE).astype(np.float32)}
    feed |= {"s": (of_source / 256).astype(np.float32), "d": (of_destination / 256).astype(np.float32)} | edges.feed()
    sums = of_source[edges.source] + of_destination[edges.destination]
    if typed:
        feed |= {"etype": edges.types, "tbias": (of_type / 256).astype(np.float32)}
        sums = sums + of_type[edges.types]
    feed |= {"n": np.array(7), "scale": np.float32(SCALE)}
    found = steps(run("QEdgeAttTyped" if typed else "QEdgeAtt", feed, slope=slope))
    logits = leaky(limited(sums), slope)
    np.testing.assert_array_equal(found, attention(edges.by_destination(logits), edges.by_destination(z[edges.source])))
    assert not found[0].any()


@pytest.mark.parametrize("exponent", [-14, -9, -3])
def test_attention_by_products(exponent: int) -> None:
    random = np.random.default_rng(-exponent)
    edges, heads = Edges(random, 11, 7, 60), 2
    z, keys = random.integers(-128, 128, (11, heads, 5)), random.integers(-128, 128, (11, heads, 4))
    queries = random.integers(-128, 128, (7, heads, 4))
    factor = 2.0 ** (exponent + 4)
    feed: Feed = {"q": (queries.reshape(7, -1) / 16).astype(np.float32)}
    feed |= {"k": (keys.reshape(11, -1) * factor).astype(np.float32)}
    feed |= {"z": (z.reshape(11, -1) * SCALE).astype(np.float32)} | edges.feed()
    feed |= {"n": np.array(7), "qs": np.float32(1 / 16), "ks": np.float32(factor), "scale": np.float32(SCALE)}
    found = steps(run("QEdgeDot", feed, heads=heads))
    dots = (queries[edges.destination] * keys[edges.source]).sum(axis=2)
    logits = limited(np.rint(dots * 2.0 ** (exponent + 8)).astype(np.int64))
    np.testing.assert_array_equal(found, attention(edges.by_destination(logits), edges.by_destination(z[edges.source])))


def test_edges_of_several_chunks_are_one_sum() -> None:
    random = np.random.default_rng(1)
    edges = Edges(random, 40, 5, 600_000)
    z, scores = random.integers(-128, 128, (40, 2)), random.integers(-500, 500, (40, 1))
    feed: Feed = {"z": (z * SCALE).astype(np.float32), "s": (scores / 256).astype(np.float32)}
    feed |= {"d": np.zeros((5, 1), np.float32)} | edges.feed() | {"n": np.array(5), "scale": np.float32(SCALE)}
    found = steps(run("QEdgeAtt", feed, slope=1.0))
    logits, rows = scores[edges.source], z[edges.source][:, None, :]
    np.testing.assert_array_equal(found, attention(edges.by_destination(logits), edges.by_destination(rows)))


def test_attention_without_edges_is_zero() -> None:
    none = np.zeros(0, np.int64)
    feed: Feed = {"z": np.ones((3, 4), np.float32), "s": np.ones((3, 2), np.float32), "d": np.ones((4, 2), np.float32)}
    feed |= {"src": none, "dst": none, "n": np.array(4), "scale": np.float32(SCALE)}
    np.testing.assert_array_equal(run("QEdgeAtt", feed, slope=0.2), np.zeros((4, 4)))


@pytest.mark.parametrize("exponent", [-12, -4])
def test_parts_of_a_stack_attend_to_each_other(exponent: int) -> None:
    random = np.random.default_rng(3)
    parts, nodes = 3, 6
    queries, keys = (random.integers(-128, 128, (parts, nodes, 4)) for _ in range(2))
    z, factor = random.integers(0, 256, (parts, nodes, 5)), 2.0 ** (exponent + 4)
    feed: Feed = {"q": (queries.reshape(-1, 4) / 16).astype(np.float32), "k": (keys.reshape(-1, 4) * factor)}
    feed |= {"z": (z.reshape(-1, 5) * SCALE).astype(np.float32), "qs": np.float32(1 / 16), "ks": np.float32(factor)}
    feed = {name: array.astype(np.float32) for name, array in feed.items()} | {"scale": np.float32(SCALE)}
    found = steps(run("QTokenAtt", feed, parts=parts))
    of_tokens = [
        [
            limited(np.rint(2.0 ** (exponent + 8) * (queries[m, n] * keys[o, n]).sum(keepdims=True)))
            for o in range(parts)
        ]
        for m in range(parts)
        for n in range(nodes)
    ]
    rows = [[z[o, n][None] for o in range(parts)] for _ in range(parts) for n in range(nodes)]
    np.testing.assert_array_equal(found, attention(of_tokens, rows))


def test_parts_of_a_stack_are_fused() -> None:
    random = np.random.default_rng(4)
    z, weights = random.integers(-128, 128, (3, 6, 5)), np.array([-70, 300, 211])
    feed: Feed = {"z": (z.reshape(-1, 5) * SCALE).astype(np.float32), "w": (weights[:, None] / 256).astype(np.float32)}
    found = steps(run("QFuse", feed | {"scale": np.float32(SCALE)}, parts=3))
    logits = [list(weights[:, None]) for _ in range(6)]
    np.testing.assert_array_equal(found, attention(logits, [list(z[:, n, None]) for n in range(6)]))


@pytest.mark.parametrize("nodes", [1, 2, 7, 300])
def test_means_of_parts(nodes: int) -> None:
    z = np.random.default_rng(nodes).integers(-128, 128, (2, nodes, 5))
    feed: Feed = {"x": (z.reshape(-1, 5) * SCALE).astype(np.float32), "scale": np.float32(SCALE)}
    expected = mean_q8(z.sum(axis=1), *reciprocals(np.array([nodes])))
    np.testing.assert_array_equal(steps(run("QPartMean", feed, parts=2)), expected)


def test_parts_stand_side_by_side() -> None:
    z = np.random.default_rng(5).normal(size=(3, 4, 2)).astype(np.float32)
    found = run("JoinParts", {"x": z.reshape(-1, 2)}, parts=3)
    np.testing.assert_array_equal(found, z.transpose(1, 0, 2).reshape(4, 6))


def test_sums_over_edges() -> None:
    random = np.random.default_rng(6)
    edges, z = Edges(random, 9, 4, 40), random.integers(-128, 128, (9, 3))
    feed: Feed = {"x": (z * SCALE).astype(np.float32)} | edges.feed() | {"n": np.array(4), "scale": np.float32(SCALE)}
    expected = np.zeros((4, 3), np.int64)
    np.add.at(expected, edges.destination, z[edges.source])
    np.testing.assert_array_equal(steps(run("QSegSum", feed), SCALE), expected)


@pytest.mark.parametrize(("signed", "lowest"), [(1, -8), (0, 0)])
def test_a_table_is_read_at_each_argument(signed: int, lowest: int) -> None:
    arguments, entries = np.arange(lowest, lowest + 16), np.random.default_rng(7).integers(-128, 128, 16)
    feed: Feed = {"x": (arguments[:, None] * SCALE).astype(np.float32), "scale": np.float32(SCALE)}
    feed |= {"table": entries.astype(np.float32), "result": np.float32(0.25)}
    found = run("QTable", feed, signed=signed, result_signed=1)
    np.testing.assert_array_equal(found[:, 0], entries * 0.25)


@pytest.mark.parametrize(("signed", "span"), [(0, 32767), (1, 900), (0, 3), (1, 0)])
def test_rows_are_normalized(signed: int, span: int) -> None:
    random = np.random.default_rng(span)
    x = random.integers(-span, span + 1, (50, 24))
    gain, offset, epsilon, shift = random.integers(-3000, 3000, 24), random.integers(-99999, 99999, 24), 4321, 15
    base, fall = root_table()
    feed: Feed = {"x": (x * SCALE).astype(np.float32), "x_scale": np.float32(SCALE)}
    numbers: Feed = {"gain": gain, "offset": offset, "epsilon": epsilon, "shift": shift, "bits": 8}
    feed |= {name: np.int64(value) for name, value in numbers.items()} | {"scale": np.float32(0.25)}
    feed |= {"base": base, "fall": fall}
    found = steps(run("QLayerNorm", feed, signed=signed), 0.25)
    rows = normalized(x, factor=24, epsilon=epsilon, centred=True)
    expected = normalize(rows, gain, offset, shift, 127 if signed else 255, bool(signed))
    np.testing.assert_array_equal(found, expected)
