# SPDX-License-Identifier: Apache-2.0
"""MobileNetV2 at ImageNet shapes keeps its time on the PYNQ-Z2, in the timeline simulator; modelled."""

from typing import Any

from tests.outside import module

MODEL: Any = module("benchmarks.gemm_model")
SHAPES: Any = module("benchmarks.image_shapes")


def test_mobilenet_keeps_its_time_on_a_design_within_the_limits() -> None:
    design = MODEL.for_depthwise()
    assert MODEL.holds(design)
    assert MODEL.timed(SHAPES.mobilenet_v2(), design).milliseconds <= 13
