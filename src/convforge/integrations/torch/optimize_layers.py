"""Layers of an optimised model: one kernel for a product and what follows it."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch

from convforge.arrays import Array
from convforge.integrations.torch.memory import array_of, tensor_of
from convforge.ops import ConvArguments, PoolArguments, conv_call, pool_call
from convforge.plan import Plan, PreparedWeights
from convforge.runtime.memory import array_address
from convforge.runtime.results import aligned_array


@dataclass(frozen=True, kw_only=True)
class Norm:
    """Batch normalisation by kept statistics: tensors of shape ``(K,)``, or None for 0 and 1."""

    mean: Any
    var: Any
    weight: Any
    bias: Any
    eps: float


class Weights:
    """Filters and bias of a layer, with what is linear behind it folded into them.

    Nothing is copied but the bias; folded filters live while a kernel's form of them is made.

    Args:
        weight, bias: Of shapes ``(K, C // groups, ...)`` and ``(K,)``; bias may be None.
        norm: ``(y - mean) / sqrt(var + eps) * weight + bias``, if one follows.
        scale: Multiplies what comes of all this: ``K`` elements, or None.
    """

    def __init__(self, weight: Any, bias: Any, norm: Norm | None, scale: Any) -> None:
        self._weight = weight
        self._version = _version(weight)
        self._read = weight, bias, norm, scale  # by whose addresses these are found again
        K = weight.shape[0]
        factor = torch.ones(K, dtype=torch.float64)
        offset = torch.zeros(K, dtype=torch.float64) if bias is None else bias.detach().double()
        if norm is not None:
            factor = (norm.var.double() + norm.eps).rsqrt()
            if norm.weight is not None:
                factor = factor * norm.weight.detach().double()
            offset = (offset - norm.mean.double()) * factor
            if norm.bias is not None:
                offset = offset + norm.bias.detach().double()
        if scale is not None:
            by = scale.detach().reshape(K).double()
            factor, offset = factor * by, offset * by
        self._factor = None if norm is None and scale is None else factor
        plain = bias is None and norm is None
        self.bias: Array | None = None if plain else array_of(offset.to(weight.dtype)).copy()
        self._forms: dict[str, PreparedWeights] = {}

    @property
    def nbytes(self) -> int:
        """Of everything kept here."""
        return sum(form.nbytes for form in self._forms.values()) + (
            0 if self.bias is None else self.bias.nbytes
        )

    def filters(self) -> Array:
        """Shape ``(K, C // groups, ...)``, channels last in memory.

        Raises:
            RuntimeError: They were written to since.
        """
        weight = self._weight.detach()
        if _version(self._weight) != self._version:
            raise RuntimeError(
                "weights of the model have changed since it was optimised: optimise it again"
            )
        if self._factor is not None:
            shape = (-1, *[1] * (weight.dim() - 1))
            weight = (weight.double() * self._factor.reshape(shape)).to(weight.dtype)
        return np.moveaxis(array_of(weight.movedim(1, -1).contiguous()), -1, 1)

    def prepared(self, plan: Plan, filters: Array) -> PreparedWeights:
        """As a plan reads them; ``filters`` in the memory order of its problem."""
        order = plan.problem.w.order  # type: ignore[union-attr]
        name = f"plain:{order}" if plan.weight_format is None else plan.weight_format.id
        form = self._forms.get(name)
        if form is None:
            form = self._forms[name] = plan.prepare(filters)
        return form


class Kernel:
    """A plan for images of one shape, called with tensors the shortest way.

    Attributes:
        label: What is computed, for people. plan: Who computes it.
    """

    def __init__(self, label: str, plan: Plan, shape: tuple[int, ...], dtype: Any) -> None:
        """Of images ``(N, C, ...)`` of PyTorch's type ``dtype``.

        Raises:
            ValueError: The plan is the reference.
        """
        if plan.on_host:
            raise ValueError("the reference alone computes it")
        self.label = label
        self.plan = plan
        self._shape = torch.Size(shape)
        self._dtype = dtype
        last = len(shape) - 1
        # From images to memory, and back.
        self._there = (0, *range(2, last + 1), 1)
        self._back = (0, last, *range(1, last))
        # What PyTorch's printer of graphs calls it.
        self.__name__ = "kernel"
        self.__module__ = __name__

    def _require(self, x: Any, shape: Any) -> None:
        if x.shape != shape or x.dtype is not self._dtype:
            raise RuntimeError(
                f"{self.label} is for {tuple(shape)} of {self._dtype}, not for "
                f"{tuple(x.shape)} of {x.dtype}"
            )


class Pooled(Kernel):
    """A pooling of images of one shape."""

    def __init__(self, label: str, args: PoolArguments, shape: tuple[int, ...], dtype: Any) -> None:
        """As :class:`Kernel`; ``args`` are of images whose channels are last."""
        like = array_of(torch.empty(shape[0], *shape[2:], shape[1], dtype=dtype))
        call = pool_call(args, like)
        super().__init__(label, call.plan, shape, dtype)
        self._result, self._result_dtype = call.result_shape, call.result_dtype

    def __call__(self, x: Any) -> Any:
        """Compute; images in any memory order."""
        self._require(x, self._shape)
        x = x.permute(self._there).contiguous()
        source = x.data_ptr()
        y = aligned_array(self._result, self._result_dtype, source)
        self.plan.launch((source, array_address(y)))
        return tensor_of(y).permute(self._back)


class Fused(Kernel):
    """A convolution or linear map of images of one shape, with what follows it."""

    def __init__(
        self,
        label: str,
        args: ConvArguments,
        weights: Weights,
        shape: tuple[int, ...],
        dtype: Any,
        *,
        residual: bool,
        rows: bool,
    ) -> None:
        """Choose an algorithm, and prepare the weights for it.

        Args:
            args: Of images whose channels are last; of one axis for rows.
            shape: Of the input: ``(N, C, ...)``, or ``(..., C)`` for rows.
            residual: Whether calls bring a tensor of the result's shape to add.
            rows: A linear map of the last axis.

        Raises:
            TypeError, ValueError, UnsupportedProblem: It cannot be computed here.
        """
        filters = weights.filters()
        if rows:
            memory: tuple[int, ...] = (1, prod(shape[:-1]), shape[-1])
            filters = filters[:, :, None]
        else:
            memory = (shape[0], *shape[2:], shape[1])
        like = np.empty(memory, filters.dtype)
        call = conv_call(args, like, filters, weights.bias, None)
        if residual:
            added = np.empty(call.result_shape, filters.dtype)
            call = conv_call(args, like, filters, weights.bias, added)
        super().__init__(label, call.prepared_plan, shape, dtype)
        self._rows = rows
        self._result = (*shape[:-1], call.result_shape[-1]) if rows else call.result_shape
        self._result_dtype = call.result_dtype
        self._added = None
        if residual:
            back = range(len(shape)) if rows else self._back
            self._added = torch.Size([self._result[axis] for axis in back])
        self._weights = weights.prepared(self.plan, call.weight.memory(filters))
        self._is_prepared = self.plan.weight_format is not None
        self._filters = array_address(self._weights.data)
        self._kept = weights.bias
        self._bias = () if self._kept is None else (array_address(self._kept),)

    def __call__(self, x: Any, residual: Any = None) -> Any:
        """Compute; tensors of the shapes it was made for, in any memory order."""
        self._require(x, self._shape)
        x = (x if self._rows else x.permute(self._there)).contiguous()
        source = x.data_ptr()
        y = aligned_array(self._result, self._result_dtype, source)
        addresses = [source, self._filters, array_address(y), *self._bias]
        if self._added is not None:
            self._require(residual, self._added)
            residual = (residual if self._rows else residual.permute(self._there)).contiguous()
            addresses.append(residual.data_ptr())
        self.plan.launch(addresses, prepared=self._is_prepared)
        return tensor_of(y) if self._rows else tensor_of(y).permute(self._back)


def _version(tensor: Any) -> int | None:
    return None if tensor.is_inference() else tensor._version
