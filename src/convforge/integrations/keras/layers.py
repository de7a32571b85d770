"""Keras's layers with another ``call``: arguments, weights and configurations are Keras's own.

A model of these layers is saved as such: to load it, import :mod:`convforge.integrations.keras`
first. Layers of Keras that are converted are saved as Keras's.
"""

from __future__ import annotations

import keras

from convforge.integrations.keras import calls

_registered = keras.saving.register_keras_serializable("convforge")


@_registered
class Conv1D(keras.layers.Conv1D):
    """Convolution of sequences; arguments as of ``keras.layers.Conv1D``."""

    call = calls.conv
    convolution_op = calls.convolution_op


@_registered
class Conv2D(keras.layers.Conv2D):
    """Convolution of images; arguments as of ``keras.layers.Conv2D``."""

    call = calls.conv
    convolution_op = calls.convolution_op


@_registered
class Conv3D(keras.layers.Conv3D):
    """Convolution of volumes; arguments as of ``keras.layers.Conv3D``."""

    call = calls.conv
    convolution_op = calls.convolution_op


@_registered
class DepthwiseConv1D(keras.layers.DepthwiseConv1D):
    """Convolution of each channel by itself; as ``keras.layers.DepthwiseConv1D``."""

    call = calls.depthwise_conv


@_registered
class DepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """Convolution of each channel by itself; as ``keras.layers.DepthwiseConv2D``."""

    call = calls.depthwise_conv


@_registered
class SeparableConv1D(keras.layers.SeparableConv1D):
    """Depthwise, then pointwise; arguments as of ``keras.layers.SeparableConv1D``."""

    call = calls.separable_conv


@_registered
class SeparableConv2D(keras.layers.SeparableConv2D):
    """Depthwise, then pointwise; arguments as of ``keras.layers.SeparableConv2D``."""

    call = calls.separable_conv


@_registered
class Conv1DTranspose(keras.layers.Conv1DTranspose):
    """Transposed convolution; arguments as of ``keras.layers.Conv1DTranspose``."""

    call = calls.conv_transpose


@_registered
class Conv2DTranspose(keras.layers.Conv2DTranspose):
    """Transposed convolution; arguments as of ``keras.layers.Conv2DTranspose``."""

    call = calls.conv_transpose


@_registered
class Conv3DTranspose(keras.layers.Conv3DTranspose):
    """Transposed convolution; arguments as of ``keras.layers.Conv3DTranspose``."""

    call = calls.conv_transpose


@_registered
class MaxPooling1D(keras.layers.MaxPooling1D):
    """Largest element of each window of sequences."""

    call = calls.pool


@_registered
class MaxPooling2D(keras.layers.MaxPooling2D):
    """Largest element of each window of images."""

    call = calls.pool


@_registered
class MaxPooling3D(keras.layers.MaxPooling3D):
    """Largest element of each window of volumes."""

    call = calls.pool


@_registered
class AveragePooling1D(keras.layers.AveragePooling1D):
    """Mean of each window of sequences, padding left out."""

    call = calls.pool


@_registered
class AveragePooling2D(keras.layers.AveragePooling2D):
    """Mean of each window of images, padding left out."""

    call = calls.pool


@_registered
class AveragePooling3D(keras.layers.AveragePooling3D):
    """Mean of each window of volumes, padding left out."""

    call = calls.pool


@_registered
class GlobalMaxPooling1D(keras.layers.GlobalMaxPooling1D):
    """Largest element of each channel of sequences."""

    call = calls.global_max_pool


@_registered
class GlobalMaxPooling2D(keras.layers.GlobalMaxPooling2D):
    """Largest element of each channel of images."""

    call = calls.global_max_pool


@_registered
class GlobalMaxPooling3D(keras.layers.GlobalMaxPooling3D):
    """Largest element of each channel of volumes."""

    call = calls.global_max_pool


@_registered
class GlobalAveragePooling1D(keras.layers.GlobalAveragePooling1D):
    """Mean of each channel of sequences."""

    call = calls.masked_global_average_pool


@_registered
class GlobalAveragePooling2D(keras.layers.GlobalAveragePooling2D):
    """Mean of each channel of images."""

    call = calls.global_average_pool


@_registered
class GlobalAveragePooling3D(keras.layers.GlobalAveragePooling3D):
    """Mean of each channel of volumes."""

    call = calls.global_average_pool
