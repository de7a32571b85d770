"""Tensors that remember how they were made, and gradients by going back over it.

The tape knows no convolution: an operation is a :class:`Function` with ``forward`` and
``backward`` on NumPy arrays, and everything differentiable in this package is one. ::

    w = Tensor(np.ones((2, 3), np.float32), requires_grad=True)
    (w * 2).sum().backward()
    w.grad
"""

from convforge.autograd.mode import enable_grad, is_grad_enabled, no_grad
from convforge.autograd.tape import Function
from convforge.autograd.tensor import Tensor

__all__ = ["Function", "Tensor", "enable_grad", "is_grad_enabled", "no_grad"]
