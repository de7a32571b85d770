"""Functions on arrays and Tensors, with the names, arguments and meaning of torch.nn.functional.

Arrays in, arrays out: NumPy arrays give NumPy arrays, tensors of PyTorch give tensors, and so on.
Where one argument is a :class:`convforge.Tensor`, so is the result, and it is recorded. What we
add to PyTorch's arguments is keyword-only. Where ``functional`` differs from PyTorch:

- zero input channels give the bias, not an empty result; zero filters give an empty result;
- integers come back in the type their sums are kept in (int8 in int32), so that nothing wraps;
- padding may be asymmetric, in (low, high) pairs, and for other strides than 1 there are
  ``"same_upper"`` and ``"same_lower"``;
- a pooling window may be padded by half of its dilated extent; the average of integers, and a
  ``divisor_override`` below 1, are refused.
"""

from convforge.functional.activation import (
    gelu,
    log_softmax,
    relu,
    relu6,
    sigmoid,
    silu,
    softmax,
    tanh,
)
from convforge.functional.adaptive import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    adaptive_max_pool3d,
)
from convforge.functional.affine import linear
from convforge.functional.convolution import (
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
)
from convforge.functional.folding import fold, unfold
from convforge.functional.fractional import fractional_max_pool2d, fractional_max_pool3d
from convforge.functional.loss import cross_entropy, mse_loss, nll_loss
from convforge.functional.lp_pooling import lp_pool1d, lp_pool2d, lp_pool3d
from convforge.functional.normalization import batch_norm
from convforge.functional.padding import pad
from convforge.functional.pooling import (
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    max_pool1d,
    max_pool2d,
    max_pool3d,
)
from convforge.functional.regularization import dropout
from convforge.functional.shape import flatten
from convforge.functional.unpooling import max_unpool1d, max_unpool2d, max_unpool3d

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
    "batch_norm",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "cross_entropy",
    "dropout",
    "flatten",
    "fold",
    "fractional_max_pool2d",
    "fractional_max_pool3d",
    "gelu",
    "linear",
    "log_softmax",
    "lp_pool1d",
    "lp_pool2d",
    "lp_pool3d",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "max_unpool1d",
    "max_unpool2d",
    "max_unpool3d",
    "mse_loss",
    "nll_loss",
    "pad",
    "relu",
    "relu6",
    "sigmoid",
    "silu",
    "softmax",
    "tanh",
    "unfold",
]
