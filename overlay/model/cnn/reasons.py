# SPDX-License-Identifier: Apache-2.0
"""Why an operator of a convolutional network is refused, and what to use in its place."""

import onnx

#: What turns logits into shares or classes; predictions are made of the logits themselves.
_AFTER_LOGITS = ("Softmax", "LogSoftmax", "Sigmoid", "ArgMax")
#: Functions of one number that no engine applies to images.
_CURVES = ("HardSwish", "HardSigmoid", "Sigmoid", "Tanh", "Elu", "Selu", "Gelu", "Erf", "LeakyRelu", "PRelu", "Mish")
_TRAIN_AGAIN = "train with Relu or Clip(0, 6) in its place"

_REASONS: dict[str, tuple[str, str]] = {
    "Mul": (
        "products of two computed tensors, as squeeze-and-excitation and swish have, are not computed",
        "use a network without them, such as ResNet or MobileNetV2",
    ),
    "Concat": ("feature maps are not joined by channel", "use a network that adds them, such as ResNet"),
    "ConvTranspose": ("images are not enlarged", "use a network that classifies"),
    "Resize": ("images are not enlarged", "use a network that classifies"),
    "Transpose": ("axes are not exchanged", "export the network with images as N x C x H x W"),
    "LayerNormalization": ("norms over a sample are not computed", "use a network with BatchNormalization"),
    "InstanceNormalization": ("norms over a sample are not computed", "use a network with BatchNormalization"),
    "GlobalMaxPool": ("the largest of a whole image is not read", "write it as MaxPool with a window as large"),
    "Dropout": ("it is exported for training", "export the model after `model.eval()`"),
} | dict.fromkeys(_CURVES, ("no engine applies this function to images", _TRAIN_AGAIN))


def why_refused(node: onnx.NodeProto, *, is_output: bool) -> tuple[str, str]:
    """The reason and an alternative.

    Args:
        node: An operator that no parser handles.
        is_output: Whether nothing reads its result.
    """
    if node.domain == "" and node.op_type in _AFTER_LOGITS and is_output:
        return "it is the model's output", "leave it out, so that the logits are the output"
    known = _REASONS.get(node.op_type) if node.domain == "" else None
    return known or ("the operator is not known", "replace it by Conv, MatMul, Gemm, pooling, Add, Relu or Clip")
