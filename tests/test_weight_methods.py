# SPDX-License-Identifier: Apache-2.0
"""Methods for weights: each by its definition, and none worse than what it starts from."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from hetfab.quantize.methods import WEIGHT_METHODS
from hetfab.quantize.methods.alternation import alternation, least_error_scales
from hetfab.quantize.methods.descent import descended
from hetfab.quantize.methods.gptq import compensated, gptq
from hetfab.quantize.methods.layer_problem import LayerInputs, LayerProblem
from hetfab.quantize.methods.moments import DenseMoments, Moments, ThinMoments
from hetfab.quantize.methods.nearest import nearest
from hetfab.quantize.methods.sub_layerwise import RUN, sub_layerwise
from hetfab.quantize.weights import LARGEST_SIGNIFICANCE, LARGEST_SPREAD, QuantizedWeights, limits_of, on_grid

Doubles = npt.NDArray[np.float64]


def problem_of(seed: int, bits: int, *, inputs: int = 24, outputs: int = 6, free: bool | None = None) -> LayerProblem:
    """A layer whose inputs are correlated."""
    random = np.random.default_rng(seed)
    mixing = random.lognormal(0, 1, (inputs, inputs))
    rows = (random.standard_normal((200, inputs)) @ mixing).astype(np.float32)
    weight = random.standard_normal((inputs, outputs)).astype(np.float32)
    return LayerProblem(weight, bits, LayerInputs((rows,)), free=free)


def matrix_of(moments: Moments) -> Doubles:
    """The moments as a matrix."""
    return moments.times(np.eye(len(moments.diagonal)))


def on_few_rows(problem: LayerProblem, rows: int = 40) -> LayerProblem:
    """The same layer where it reads few rows."""
    return replace(problem, inputs=LayerInputs((problem.inputs.rows[0][:rows],)))


def loss_of(problem: LayerProblem, found: QuantizedWeights) -> float:
    """The mean square error of the outputs, from the rows, with the damping's share of weights."""
    error = found.integers * found.scales.astype(np.float64) - problem.weight
    rows = problem.inputs.rows[0].astype(np.float64)
    plain = rows.T @ rows / len(rows)
    return float(
        np.einsum("kn,kl,ln->", error, plain + 0.01 * np.trace(plain) / len(plain) * np.eye(len(plain)), error)
    )


def test_moments_are_means_of_outer_products_of_dense_and_sparse_rows() -> None:
    rows = (np.random.default_rng(0).random((50, 7)) * (np.random.default_rng(1).random((50, 7)) < 0.2)).astype(
        np.float32
    )
    plain = rows.astype(np.float64).T @ rows / 50
    expected = plain + 0.01 * np.trace(plain) / 7 * np.eye(7)
    for given_rows in (rows, scipy.sparse.csr_matrix(rows)):
        found = LayerInputs((given_rows[:20], given_rows[20:]))
        np.testing.assert_allclose(matrix_of(found.moments), expected, rtol=1e-5)
        np.testing.assert_allclose(found.mean, rows.mean(axis=0), rtol=1e-5)
        assert found.largest_sum(np.full((7, 1), -3)) == pytest.approx(3 * rows.sum(axis=1).max(), rel=1e-5)


def test_the_factor_is_the_upper_cholesky_factor_of_the_inverse() -> None:
    moments = problem_of(3, 4).inputs.moments
    assert isinstance(moments, DenseMoments)
    ordered = moments.matrix[np.ix_(moments.order, moments.order)]
    assert np.all(np.diff(np.diag(ordered)) <= 0)
    np.testing.assert_allclose(moments.factor.T @ moments.factor @ ordered, np.eye(len(ordered)), atol=1e-6)
    assert np.array_equal(moments.factor, np.triu(moments.factor))


def few_rows(seed: int, rows: int, inputs: int) -> ThinMoments:
    """Moments of correlated rows, of which a layer reads fewer than half as many as it has input channels."""
    random = np.random.default_rng(seed)
    given_rows = np.maximum(random.standard_normal((rows, inputs)) * random.lognormal(0, 1, inputs), 0)
    found = LayerInputs((given_rows.astype(np.float32),)).moments
    assert isinstance(found, ThinMoments)
    return found


@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(41, 200))
@settings(max_examples=25, deadline=None)
def test_few_rows_have_the_products_of_their_matrix(seed: int, rows: int, inputs: int) -> None:
    thin, random = few_rows(seed, rows, inputs), np.random.default_rng(seed)
    dense = DenseMoments(thin.rows.T @ thin.rows + thin.damping * np.eye(inputs))
    values, block = random.standard_normal((inputs, 3)), slice(inputs // 3, inputs // 3 + 10)
    np.testing.assert_allclose(thin.times(values), dense.times(values), atol=1e-9)
    np.testing.assert_allclose(thin.losses(values), dense.losses(values))
    np.testing.assert_allclose(thin.diagonal, dense.diagonal)
    np.testing.assert_allclose(thin.block(block), dense.block(block), atol=1e-12)
    assert np.array_equal(thin.order, np.argsort(-thin.diagonal, kind="stable"))
    slopes = thin.slopes(values), dense.slopes(values)
    change, columns = random.standard_normal((10, 2)), np.array([0, 2])
    for each in slopes:
        each.move(block, columns, change)
    values[block, columns] += change
    for place in (block, slice(0, inputs)):
        np.testing.assert_allclose(slopes[0].at(place), slopes[1].at(place), atol=1e-9)
        np.testing.assert_allclose(slopes[0].at(place), dense.times(values)[place], atol=1e-9)


@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(41, 200))
@settings(max_examples=25, deadline=None)
def test_few_rows_pass_on_what_the_cholesky_factor_does(seed: int, rows: int, inputs: int) -> None:
    """Channel k passes ``U_kj / U_kk`` to channel j."""
    thin = few_rows(seed, rows, inputs)
    dense = DenseMoments(matrix_of(thin))
    dense.order = thin.order
    expected = dense.factor / np.diag(dense.factor)[:, None]
    found = np.triu(thin.passed @ thin.rows[:, thin.order], 1) + np.eye(inputs)
    np.testing.assert_allclose(found, expected, atol=1e-7)


def test_feeds_of_few_rows_are_one_matrix() -> None:
    rows = np.random.default_rng(2).random((12, 40)).astype(np.float32)
    once, feeds = LayerInputs((rows,)).moments, LayerInputs((rows[:5], rows[5:])).moments
    assert isinstance(feeds, ThinMoments)
    np.testing.assert_allclose(matrix_of(feeds), matrix_of(once))
    plain = rows.astype(np.float64).T @ rows / 12
    np.testing.assert_allclose(matrix_of(feeds), plain + 0.01 * np.trace(plain) / 40 * np.eye(40), rtol=1e-6)


@pytest.mark.parametrize("rows", [20, 200])
@pytest.mark.parametrize("name", list(WEIGHT_METHODS))
def test_what_reads_zeros_alone_is_rounded_to_nearest(name: str, rows: int) -> None:
    """No error counts more than another, and none is passed on."""
    problem = replace(problem_of(7, 4, inputs=50), inputs=LayerInputs((np.zeros((rows, 50), np.float32),)))
    found = WEIGHT_METHODS[name](problem)
    low, high = limits_of(4, found.narrow)
    assert np.array_equal(found.integers, np.clip(np.rint(problem.weight / found.scales), low, high))


def one_by_one(problem: LayerProblem, scales: Doubles, low: int, high: int) -> npt.NDArray[np.int64]:
    """Optimal brain quantization by its definition: the inverse moments shrink after each input channel."""
    weight, inverse = problem.weight.astype(np.float64), np.linalg.inv(matrix_of(problem.inputs.moments))
    integers = np.zeros(weight.shape, np.int64)
    for channel in problem.inputs.moments.order:
        integers[channel] = np.clip(np.rint(weight[channel] / scales), low, high)
        error = (weight[channel] - integers[channel] * scales) / inverse[channel, channel]
        weight = weight - np.outer(inverse[:, channel], error)
        inverse = inverse - np.outer(inverse[:, channel], inverse[channel]) / inverse[channel, channel]
    return integers


@pytest.mark.parametrize(("inputs", "rows"), [(24, 400), (150, 400), (300, 30), (300, 1)])
def test_gptq_is_optimal_brain_quantization_in_order(inputs: int, rows: int) -> None:
    """150 channels take two blocks; of 30 rows and of one the moments are thin."""
    problem = problem_of(5, 3, inputs=inputs)
    given_rows = np.random.default_rng(0).random((rows, inputs)).astype(np.float32)
    problem = replace(problem, inputs=LayerInputs((given_rows,)))
    scales = np.full(6, 0.6)
    found = compensated(problem, scales, *limits_of(3, True))
    assert np.mean(found == one_by_one(problem, scales, *limits_of(3, True))) > 0.999


@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 3, 4, 6]))
@settings(max_examples=15, deadline=None)
def test_the_alternation_loses_no_more_than_gptq(seed: int, bits: int) -> None:
    for problem in (problem_of(seed, bits), on_few_rows(problem_of(seed, bits, inputs=100))):
        first, second = loss_of(problem, gptq(problem)), loss_of(problem, alternation(problem))
        assert second <= first * (1 + 1e-9)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("name", list(WEIGHT_METHODS))
def test_methods_lose_as_much_with_few_rows_as_with_their_matrix(name: str, bits: int) -> None:
    """A rounding may fall to the other side of a half, and all that follow with it."""
    problem = on_few_rows(problem_of(12, bits, inputs=100, outputs=16))
    thin = problem.inputs.moments
    assert isinstance(thin, ThinMoments)
    dense = LayerInputs(problem.inputs.rows)
    dense.__dict__["moments"] = DenseMoments(matrix_of(thin))
    losses = [loss_of(problem, WEIGHT_METHODS[name](replace(problem, inputs=each))) for each in (problem.inputs, dense)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_less_is_lost_with_each_step_of_care() -> None:
    """Means over layers: of one alone, GPTQ may lose more than rounding to nearest."""
    for bits in (2, 3, 4):
        for problems in (
            [problem_of(seed, bits) for seed in range(8)],
            [on_few_rows(problem_of(seed, bits, inputs=100)) for seed in range(8)],
        ):
            losses = [
                [
                    loss_of(problem, WEIGHT_METHODS[name](problem)) / loss_of(problem, nearest(problem))
                    for name in ("nearest", "gptq", "alternation")
                ]
                for problem in problems
            ]
            of_nearest, of_gptq, of_alternation = np.mean(losses, axis=0)
            assert of_alternation < 0.95 * of_gptq < 0.8 * of_nearest


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_runs_of_channels_have_the_best_of_all_shared_scales(bits: int) -> None:
    """By its definition: each run's scale has the least error of its outputs among all that are tried."""
    problem = problem_of(4, bits, outputs=2 * RUN + 3)
    found = sub_layerwise(problem)
    for first in range(0, found.integers.shape[1], RUN):
        run = slice(first, first + RUN)
        (scale,) = set(found.scales[run].tolist())
        low, high = limits_of(bits, found.narrow)
        peak = float(np.abs(problem.weight[:, run]).max()) / high
        tried = peak * 2.0 ** (-np.arange(41) / 8) if bits < 4 else 2.0 ** (np.ceil(np.log2(peak)) - np.arange(4))
        losses = []
        for each in tried:
            restored = np.array(problem.weight, np.float64)
            restored[:, run] = np.clip(np.rint(problem.weight[:, run] / each), low, high) * each
            losses.append(problem.losses(restored).sum())
        assert scale == pytest.approx(tried[int(np.argmin(losses))], rel=2.0**-LARGEST_SIGNIFICANCE)


@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 3, 5]))
@settings(max_examples=15, deadline=None)
def test_a_descent_ends_where_no_single_step_helps(seed: int, bits: int) -> None:
    problem = problem_of(seed, bits, inputs=9, outputs=3)
    start = nearest(problem)
    found = descended(problem, start, 50)
    assert loss_of(problem, found) <= loss_of(problem, start) * (1 + 1e-9)
    low, high = limits_of(found.bits, found.narrow)
    for place in np.ndindex(found.integers.shape):
        for step in (-1, 1):
            integers = found.integers.copy()
            integers[place] = np.clip(integers[place] + step, low, high)
            assert loss_of(problem, replace(found, integers=integers)) >= loss_of(problem, found) * (1 - 1e-6)


def test_the_closed_form_scale_is_least() -> None:
    problem = problem_of(11, 3)
    found = nearest(problem)
    scales = least_error_scales(problem, found)
    for factor in (0.99, 1.01):
        error = [problem.losses(found.integers * each) for each in (scales, scales * factor)]
        assert (error[0] < error[1]).all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.booleans(), st.sampled_from(list(WEIGHT_METHODS)))
@settings(max_examples=40, deadline=None)
def test_every_method_keeps_what_a_file_can_hold(seed: int, bits: int, shared: bool, name: str) -> None:
    problem = replace(problem_of(seed, bits), shared_scale=shared)
    found = WEIGHT_METHODS[name](problem)
    low, high = limits_of(bits, found.narrow)
    assert found.bits == bits and found.integers.shape == problem.weight.shape
    assert bits == 1 or (found.integers.min() >= low and found.integers.max() <= high)
    assert bits > 1 or set(np.unique(found.integers)) <= {-1, 1}
    assert found.mantissas.max() < 1 << (LARGEST_SIGNIFICANCE + 1 if bits < 4 else 1)
    assert np.ptp(np.frexp(found.scales)[1]) <= LARGEST_SPREAD + 1
    assert not shared or len(set(found.scales.tolist())) == 1


@pytest.mark.parametrize("name", list(WEIGHT_METHODS))
def test_a_matrix_of_zeros_stays_one(name: str) -> None:
    problem = replace(problem_of(0, 4), weight=np.zeros((24, 6), np.float32))
    assert not WEIGHT_METHODS[name](problem).integers.any()


def test_small_scales_are_raised_to_the_lowest_exponent() -> None:
    for free in (True, False):
        found = on_grid(np.array([1.0, 2.0**-12]), free, LARGEST_SIGNIFICANCE, -4)
        assert found.scales.tolist() == [1.0, 2.0**-4]
