"""What layers of Keras do when they are called, by this package's kernels.

Each function here is the ``call`` of layers: of the classes of
:mod:`convforge.integrations.keras.layers`, and of layers that are converted. They read a layer's
weights and settings where Keras keeps them, and own nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import keras

from convforge.conventions import keras as rules
from convforge.conventions.common import reshape
from convforge.integrations.keras.backends import is_left, is_recorded, run
from convforge.integrations.keras.weights import keep

_FUSED = {
    keras.activations.linear: None,
    keras.activations.relu: "relu",
    keras.activations.relu6: "relu6",
    keras.activations.silu: "silu",
    keras.activations.gelu: "gelu",
}
"""Activations that kernels apply before a result leaves the registers."""

Call = Callable[..., Any]


def of_keras(layer: Any) -> Call:
    """The ``call`` that the layer has from Keras."""
    for home in type(layer).__mro__:
        if home.__module__.partition(".")[0] == "keras" and "call" in vars(home):
            return partial(vars(home)["call"], layer)
    raise TypeError(f"{type(layer).__name__} is no layer of Keras")


def _concrete(call: Call) -> Call:
    """Leave to Keras what is not computed here: shapes alone, and transforms of PyTorch."""

    @wraps(call)
    def either(self: Any, inputs: Any) -> Any:
        return of_keras(self)(inputs) if is_left(inputs) else call(self, inputs)

    return either


def _convolve(
    layer: Any, operator: Call, inputs: Any, kernel: Any, *, last: bool = True, **settings: Any
) -> Any:
    """The operator with the layer's strides and so on; the last one has bias and activation."""
    bias = layer.bias if last and layer.use_bias else None
    activation = layer.activation if last else None
    word = None if activation is None else _FUSED.get(activation)
    operator = partial(
        operator, padding=layer.padding, data_format=layer.data_format, activation=word, **settings
    )
    x, b = inputs, None if bias is None else keras.ops.convert_to_tensor(bias)
    w = keras.ops.convert_to_tensor(kernel)
    if _is_stored(kernel) and not is_recorded(x, w, b):
        kept = keep(layer, w, depthwise=operator.func is rules.depthwise_conv)
        y = run(lambda x, b: operator(x, kept.array, bias=b, prepare=kept), x, b)
    else:
        y = run(lambda x, w, b: operator(x, w, bias=b), x, w, b)
    return y if activation is None or activation in _FUSED else activation(y)


def _steps(layer: Any) -> dict[str, Any]:
    return {"strides": layer.strides, "dilation_rate": layer.dilation_rate}


def _is_stored(kernel: Any) -> bool:
    """Whether the layer has the tensor itself: not cast for this call, nor made by LoRA."""
    return isinstance(kernel, keras.Variable) and kernel.value is kernel.value


def convolution_op(self: Any, inputs: Any, kernel: Any) -> Any:
    """The convolution alone, for subclasses that do something to the kernel first."""
    function = partial(
        rules.conv, padding=self.padding, data_format=self.data_format, **_steps(self)
    )
    if is_left(inputs):
        return keras.layers.Conv2D.convolution_op(self, inputs, kernel)
    return run(function, inputs, keras.ops.convert_to_tensor(kernel))


OPS = (convolution_op, keras.layers.Conv2D.convolution_op)


@_concrete
def conv(self: Any, inputs: Any) -> Any:
    """Convolution in groups."""
    if type(self).convolution_op not in OPS:
        return of_keras(self)(inputs)  # which calls the subclass's
    return _convolve(self, rules.conv, inputs, self.kernel, **_steps(self))


@_concrete
def depthwise_conv(self: Any, inputs: Any) -> Any:
    """Convolution of each channel by itself."""
    return _convolve(self, rules.depthwise_conv, inputs, self.kernel, **_steps(self))


@_concrete
def separable_conv(self: Any, inputs: Any) -> Any:
    """Depthwise, then pointwise."""
    y = _convolve(
        self, rules.depthwise_conv, inputs, self.depthwise_kernel, last=False, **_steps(self)
    )
    return _convolve(self, rules.conv, y, self.pointwise_kernel)


@_concrete
def conv_transpose(self: Any, inputs: Any) -> Any:
    """Transposed convolution."""
    extra = {"output_padding": self.output_padding}
    return _convolve(self, rules.conv_transpose, inputs, self.kernel, **_steps(self), **extra)


@_concrete
def pool(self: Any, inputs: Any) -> Any:
    """Largest element, or mean, of each window."""
    operator = {"max": rules.max_pool, "average": rules.average_pool}[self.pool_mode]
    function = partial(
        operator, pool_size=self.pool_size, strides=self.strides, padding=self.padding,
        data_format=self.data_format,
    )  # fmt: skip
    return run(function, inputs)


def _global(layer: Any, operator: Call, inputs: Any) -> Any:
    N, C = inputs.shape[0], inputs.shape[-1 if layer.data_format == "channels_last" else 1]

    def function(inputs: Any) -> Any:
        y = operator(inputs, 1, layer.data_format)
        return y if layer.keepdims else reshape(y, (N, C))

    return run(function, inputs)


@_concrete
def global_max_pool(self: Any, inputs: Any) -> Any:
    """Largest element of each channel."""
    return _global(self, rules.adaptive_max_pool, inputs)


@_concrete
def global_average_pool(self: Any, inputs: Any) -> Any:
    """Mean of each channel."""
    return _global(self, rules.adaptive_average_pool, inputs)


def masked_global_average_pool(self: Any, inputs: Any, mask: Any = None) -> Any:
    """Mean of each channel of a sequence, by Keras where steps are masked."""
    if mask is not None:
        return of_keras(self)(inputs, mask=mask)
    return global_average_pool(self, inputs)
