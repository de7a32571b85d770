"""Layers of an optimised model: one kernel for a product and what follows it."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch

from convforge.arrays import Array
from convforge.integrations.torch.memory import array_of, tensor_of
from convforge.ops import ConvArguments, conv_call
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

    Nothing is copied but the bias; folded filters are made for as long as a kernel's form of them is.

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


class Fused:
    """A convolution or linear map of images of one shape, with what follows it.

    Attributes:
        label: What is computed, for people. plan: Who computes it.
    """

    def __init__(
        self,
        label: str,
        args: ConvArguments,
        weights: Weights,
        shape: tuple[int, ...],
        residual: bool,
        *,
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
        self.label = label
        self.plan = call.prepared_plan
        if self.plan.on_host:
            raise ValueError("the reference alone computes it")
        self._weights = weights.prepared(self.plan, call.weight.memory(filters))
        self._bias = weights.bias
        self._shape = torch.Size(shape)
        self._dtype = tensor_of(filters[:0].copy()).dtype
        self._result = (*shape[:-1], call.result_shape[-1]) if rows else call.result_shape
        self._result_dtype = call.result_dtype
        last = len(shape) - 1
        # From images to memory, and back.
        self._there = tuple(range(last + 1)) if rows else (0, *range(2, last + 1), 1)
        self._back = tuple(range(last + 1)) if rows else (0, last, *range(1, last))
        self._moves = not rows
        of_caller = tuple(self._result[axis] for axis in self._back)
        self._residual_shape = torch.Size(of_caller) if residual else None
        self._pointers = [
            array_address(self._weights.data),
            None if self._bias is None else array_address(self._bias),
        ]
        # What PyTorch's printer of graphs calls it.
        self.__name__ = "fused"
        self.__module__ = __name__

    def __call__(self, x: Any, residual: Any = None) -> Any:
        """Compute; tensors of the shapes it was made for, in any memory order."""
        if x.shape != self._shape or x.dtype is not self._dtype:
            raise RuntimeError(f"{self.label} is for {tuple(self._shape)} of {self._dtype}")
        if self._moves:
            x = x.permute(self._there)
        x = x.contiguous()
        weights, bias = self._pointers
        source = x.data_ptr()
        y = aligned_array(self._result, self._result_dtype, source)
        addresses = [source, weights, array_address(y)]
        if bias is not None:
            addresses.append(bias)
        if self._residual_shape is not None:
            if residual.shape != self._residual_shape or residual.dtype is not self._dtype:
                raise RuntimeError(f"{self.label} adds {tuple(self._residual_shape)}")
            residual = (residual.permute(self._there) if self._moves else residual).contiguous()
            addresses.append(residual.data_ptr())
        self.plan.launch(addresses, prepared=self.plan.weight_format is not None)
        y = tensor_of(y)
        return y.permute(self._back) if self._moves else y


def _version(tensor: Any) -> int | None:
    return None if tensor.is_inference() else tensor._version
