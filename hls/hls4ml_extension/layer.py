# SPDX-License-Identifier: Apache-2.0
"""``HeteroDense`` as hls4ml sees it: the layer, its configuration in C++ and its call. Imports hls4ml."""

from typing import Any

import numpy as np
from hls4ml.backends.template import FunctionCallTemplate, LayerConfigTemplate
from hls4ml.model.attributes import Attribute
from hls4ml.model.layers import Layer
from hls4ml.model.types import IntegerPrecisionType

from hetfab.hls.hls4ml_extension.packing import PackedDense, pack
from hetfab.hls.hls4ml_extension.split import Split
from hetfab.hls.hls4ml_extension.types import activations_of, exact_precision, output_format
from hetfab.overlay.errors import FieldRangeError, Hls4mlRefusedError

#: Backends whose projects the layer's HLS is written for.
BACKENDS = ("Vivado", "Vitis")
IO_TYPES = ("io_parallel", "io_stream")
#: Where a project holds the layer's headers, below its folder ``firmware``.
HEADER_FOLDER = "nnet_utils/hetfab"
_LARGEST_FACTOR = (1 << 16) - 1


class HeteroDense(Layer):  # type: ignore[misc]
    """A dense layer with fixed weights; ``dense_layer`` makes its attributes."""

    _expected_attributes = (
        Attribute("n_in"),
        Attribute("n_out"),
        Attribute("integers", value_type=np.ndarray),
        Attribute("sum_bias", value_type=np.ndarray),
        Attribute("multipliers", value_type=np.ndarray),
        Attribute("exponent"),
    )

    def initialize(self) -> None:
        """Declares the output: as many rows as the input has, of ``n_out`` channels.

        Raises:
            Hls4mlRefusedError: Another backend or interface, or an input whose rows are not ``n_in`` channels.
        """
        self._check_project()
        shape = list(self.get_input_variable().shape)
        if shape[-1] != self.get_attr("n_in"):
            raise Hls4mlRefusedError(
                f"HeteroDense '{self.name}' has {self.get_attr('n_in')} inputs and reads rows of {shape[-1]} channels",
                "as many weights' rows as channels",
                "correct the layer's weights or its source",
            )
        self.set_attr("n_rows", int(np.prod(shape[:-1])))
        self.add_output_variable([*shape[:-1], self.get_attr("n_out")])

    def _check_project(self) -> None:
        backend, io_type = self.model.config.backend.name, self.model.config.get_config_value("IOType")
        if backend not in BACKENDS or io_type not in IO_TYPES:
            raise Hls4mlRefusedError(
                f"HeteroDense '{self.name}' in a project for {backend} with {io_type}",
                f"the backends {' and '.join(BACKENDS)}, with {' or '.join(IO_TYPES)}",
                "choose one of them",
            )

    @property
    def split(self) -> Split | None:
        """Which outputs are where: the project's configuration comes before the layer's description."""
        described: Split | None = self.get_attr("split")
        channels = self.get_attr("dsp_channels")
        parallel = described or Split(0)
        if channels is None:
            return described
        return Split(
            int(channels),
            int(self.get_attr("dsp_parallel", parallel.dsp_parallel)),
            int(self.get_attr("lut_parallel", parallel.lut_parallel)),
        )

    @property
    def fraction(self) -> int:
        """Fraction bits of an exact result."""
        return int(self.get_input_variable().type.precision.fractional + self.get_attr("exponent"))

    def packed(self) -> PackedDense:
        """The layer's integers as its engines take them, for the type that it reads."""
        return pack(
            self.name,
            self.get_attr("integers"),
            self.get_attr("sum_bias"),
            self.get_attr("multipliers"),
            activations_of(self.name, self.get_input_variable().type.precision),
            self.split,
        )

    def take_exact_precision(self) -> None:
        """Gives the output the narrowest type that holds every result."""
        precision = exact_precision(self.packed().result_bits, self.fraction, bool(self.get_attr("relu")))
        self.get_output_variable().type.precision = precision

    def freeze(self) -> None:
        """Fixes the format of results and makes the weights' arrays, once the types around the layer are final.

        Raises:
            FieldRangeError: A multiplier times the power of two that the result's type asks for leaves 16 bits.
        """
        packed = self.packed()
        relu = bool(self.get_attr("relu"))
        precision = self.get_output_variable().type.precision
        chosen = output_format(self.name, precision, packed.result_bits, self.fraction, relu)
        factors = self.get_attr("multipliers") << chosen.left_shift
        if int(factors.max()) > _LARGEST_FACTOR:
            raise FieldRangeError(
                f"layer '{self.name}' has a multiplier of {factors.max()} for results of type {precision}",
                f"at most {_LARGEST_FACTOR}",
                "use a type with fewer fraction bits, or 'auto'",
            )
        self.set_attr("packing", packed)
        self.set_attr("format", chosen.limited(relu, self.get_attr("limits")))
        self._add_array("weight_d", "wd", packed.dsp_words, 32, signed=False)
        self._add_array("weight_l", "wl", packed.lut_words, 32, signed=False)
        self._add_array("bias", "b", packed.bias, 32, signed=True)
        self._add_array("multiplier", "m", factors, 16, signed=False)

    def _add_array(self, name: str, prefix: str, data: Any, bits: int, *, signed: bool) -> None:
        precision = IntegerPrecisionType(bits, signed)
        self.add_weights_variable(name, f"{prefix}{{index}}", None, precision, data.astype(np.float64))


_CONFIG = """struct config{index} {{
    static const unsigned n_rows = {n_rows};
    static const unsigned n_in = {n_in};
    static const unsigned n_out = {n_out};
    static const unsigned n_dsp = {split.dsp_channels};
    static const unsigned dsp_cols = {split.dsp_parallel};
    static const unsigned lut_cols = {split.lut_parallel};
    static const bool packed = {packed};
    static const unsigned planes = {planes};
    static const bool bipolar = {bipolar};
    static const int in_bits = {activations.bits};
    static const bool in_signed = {in_signed};
    static const int dsp_bits = {dsp_bits};
    static const int lut_bits = {lut_bits};
    static const bool exact = {exact};
    static const bool relu = {relu};
    static const unsigned shift = {format.shift};
    static const int out_bits = {format.bits};
    static const int lowest = {lowest};
    static const int highest = {highest};
}};\n"""


class HeteroDenseConfig(LayerConfigTemplate):  # type: ignore[misc]
    """The layer's configuration as a struct of constants."""

    def __init__(self) -> None:
        super().__init__(HeteroDense)

    def format(self, node: HeteroDense) -> str:
        """The struct."""
        packed, chosen = node.get_attr("packing"), node.get_attr("format")
        activations = activations_of(node.name, node.get_input_variable().type.precision)
        return _CONFIG.format(
            index=node.index,
            n_rows=node.get_attr("n_rows"),
            n_in=node.get_attr("n_in"),
            n_out=node.get_attr("n_out"),
            split=packed.split,
            packed=_cpp(packed.packed),
            planes=packed.planes,
            bipolar=_cpp(packed.bipolar),
            activations=activations,
            in_signed=_cpp(activations.signed),
            dsp_bits=packed.dsp_bits,
            lut_bits=packed.lut_bits,
            exact=_cpp(chosen.exact),
            relu=_cpp(chosen.relu),
            format=chosen,
            # Of an exact result, whose ends may have more bits than an int, nothing is limited.
            lowest=0 if chosen.exact else chosen.lowest,
            highest=0 if chosen.exact else chosen.highest,
        )


def _cpp(value: bool) -> str:
    return "true" if value else "false"


class HeteroDenseCall(FunctionCallTemplate):  # type: ignore[misc]
    """The call in the project's top function."""

    def __init__(self) -> None:
        super().__init__(HeteroDense, include_header=[f"{HEADER_FOLDER}/hetero_dense.hpp"])

    def format(self, node: HeteroDense) -> str:
        """The call."""
        names = self._default_function_params(node)
        arrays = ", ".join(node.get_weights(name).name for name in ("weight_d", "weight_l", "bias", "multiplier"))
        return f"hetfab::hetero_dense<{names['config']}>({names['input']}, {names['output']}, {arrays});"
