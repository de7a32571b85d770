"""Layers, with the names, arguments, parameters and state of torch.nn.

A layer called on a Tensor, or in training, gives a recorded Tensor. In eval mode or under
``no_grad()`` a plain array gives a plain array, and layers with weights keep these packed the way
their kernels read them; see :meth:`Module.freeze` and :meth:`Module.refresh` for the promise.
"""

from convforge.nn import init
from convforge.nn.activation import (
    GELU,
    Flatten,
    Identity,
    LogSoftmax,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softmax,
    Tanh,
)
from convforge.nn.container import ModuleList, Sequential
from convforge.nn.conv import (
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
)
from convforge.nn.dropout import Dropout
from convforge.nn.linear import Linear
from convforge.nn.loss import CrossEntropyLoss, MSELoss, NLLLoss
from convforge.nn.module import Module, Parameter
from convforge.nn.norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from convforge.nn.pooling import (
    AvgPool1d,
    AvgPool2d,
    AvgPool3d,
    MaxPool1d,
    MaxPool2d,
    MaxPool3d,
)

__all__ = [
    "GELU",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "CrossEntropyLoss",
    "Dropout",
    "Flatten",
    "Identity",
    "Linear",
    "LogSoftmax",
    "MSELoss",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "Module",
    "ModuleList",
    "NLLLoss",
    "Parameter",
    "ReLU",
    "ReLU6",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "init",
]
