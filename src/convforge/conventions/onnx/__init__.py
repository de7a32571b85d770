"""ONNX's convolutions and poolings, of opset 22: inputs by position, attributes by keyword.

Arrays are ``(N, C, D1, ...)`` and filters ``(M, C // group, k1, ...)``. ``pads`` are all
beginnings, then all ends. An attribute that is None has the operator's default: strides and
dilations of 1 (for poolings too), no padding. Source: https://onnx.ai/onnx/operators/

Unlike onnxruntime, a maximum hands NaN on wherever it stands in a window, and pads are at most half
of the dilated window.
"""

from convforge.conventions.onnx.convolution import Conv, ConvInteger, ConvTranspose
from convforge.conventions.onnx.pooling import (
    AveragePool,
    GlobalAveragePool,
    GlobalLpPool,
    GlobalMaxPool,
    LpPool,
    MaxPool,
    MaxUnpool,
)

__all__ = [
    "AveragePool",
    "Conv",
    "ConvInteger",
    "ConvTranspose",
    "GlobalAveragePool",
    "GlobalLpPool",
    "GlobalMaxPool",
    "LpPool",
    "MaxPool",
    "MaxUnpool",
]
