"""The kernels as operators of PyTorch; also called ``convforge.torch``.

Functions take what those of :mod:`torch.nn.functional` take, record gradients (of any order), and
can be compiled and exported. What they do not run falls through to PyTorch, and :func:`report`
says why. :func:`convert` and :func:`use` bring them into models that exist.
"""

from convforge.integrations.torch import nn
from convforge.integrations.torch.conversion import convert, refresh, restore
from convforge.integrations.torch.convolution import (
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
    linear,
)
from convforge.integrations.torch.fallback import report
from convforge.integrations.torch.folding import fold, unfold
from convforge.integrations.torch.fractional import fractional_max_pool2d, fractional_max_pool3d
from convforge.integrations.torch.lp_pooling import lp_pool1d, lp_pool2d, lp_pool3d
from convforge.integrations.torch.mode import use
from convforge.integrations.torch.optimization import optimize
from convforge.integrations.torch.padding import pad
from convforge.integrations.torch.pooling import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    adaptive_max_pool3d,
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    max_pool1d,
    max_pool2d,
    max_pool3d,
)
from convforge.integrations.torch.unpooling import max_unpool1d, max_unpool2d, max_unpool3d

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "convert",
    "fold",
    "fractional_max_pool2d",
    "fractional_max_pool3d",
    "linear",
    "lp_pool1d",
    "lp_pool2d",
    "lp_pool3d",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "max_unpool1d",
    "max_unpool2d",
    "max_unpool3d",
    "nn",
    "optimize",
    "pad",
    "refresh",
    "report",
    "restore",
    "unfold",
    "use",
]
