"""From the words of PyTorch's signatures to the fields of a problem.

:class:`ConvArguments` and :class:`PoolArguments` are what a call says besides its arrays, in one
canonical spelling, so that they can be part of a cache's key.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from convforge.arrays import dtype_of
from convforge.policy import Policy
from convforge.problem import Axis, DType, Order, PadMode, PoolKind, PostOp

Ints = int | tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]
Padding = str | int | tuple[int, ...] | Pairs

_ACTIVATIONS = tuple(op for op in PostOp if not op.reads_operand)
_AXIS_WORDS = {1: "(w)", 2: "(h, w)", 3: "(d, h, w)"}


class ConvArguments(NamedTuple):
    """What a convolution's call says besides its arrays.

    Attributes:
        rank: Number of spatial axes.
        transposed: The call is the transpose of the convolution that these describe.
        output_padding: Of a transposed one, each smaller than its stride.
        policy: Limits, with the algorithm's name in them; None is the default policy.
        out_dtype: Type of the result, None for the usual one.
    """

    rank: int
    stride: Ints = 1
    padding: Padding = 0
    dilation: Ints = 1
    groups: int = 1
    layout: str | None = None
    padding_mode: str = "zeros"
    activation: str | None = None
    policy: Policy | None = None
    transposed: bool = False
    output_padding: Ints = 0
    out_dtype: DType | None = None


def conv_arguments(
    rank: int,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
    *,
    layout: str | None = None,
    padding_mode: str = "zeros",
    activation: str | None = None,
    algorithm: str | None = None,
    policy: Policy | None = None,
    transposed: bool = False,
    output_padding: Any = 0,
    out_dtype: Any = None,
) -> ConvArguments:
    """Bring the arguments of a call into their canonical spelling.

    Raises:
        TypeError, ValueError: An argument that means nothing, whatever the arrays are.
    """
    if stride.__class__ is not int:
        stride = ints("stride", stride, rank)
    if padding.__class__ is not int:
        padding = paddings(padding, rank)
    if dilation.__class__ is not int:
        dilation = ints("dilation", dilation, rank)
    if groups.__class__ is not int:
        groups = integer("groups", groups)
    if output_padding.__class__ is not int:
        output_padding = ints("output_padding", output_padding, rank)
    if algorithm is not None or policy is not None:
        policy = policy_with(policy, algorithm)
    require_word("layout", layout)
    require_word("padding_mode", padding_mode)
    return ConvArguments(
        rank, stride, padding, dilation, groups, layout, padding_mode,
        activation_word(activation), policy,
        transposed, output_padding, None if out_dtype is None else _element_type(out_dtype),
    )  # fmt: skip


class PoolArguments(NamedTuple):
    """What a pooling's call says besides its array.

    Attributes:
        rank: Number of spatial axes.
        stride: None is the window's own extent.
        divisor: Divide sums by this instead of the window's count.
        policy: Limits, with the algorithm's name in them; None is the default policy.
        output_size: Of adaptive pooling, whose windows follow from it; None keeps an axis.
    """

    kind: PoolKind
    rank: int
    kernel_size: Ints
    stride: Ints | None = None
    padding: Padding = 0
    dilation: Ints = 1
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor: int | None = None
    layout: str | None = None
    policy: Policy | None = None
    output_size: tuple[int | None, ...] | None = None


def pool_arguments(
    kind: PoolKind,
    rank: int,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor: Any = None,
    *,
    layout: str | None = None,
    algorithm: str | None = None,
    policy: Policy | None = None,
) -> PoolArguments:
    """Bring the arguments of a call into their canonical spelling.

    Raises:
        TypeError, ValueError: An argument that means nothing, whatever the array is.
    """
    if kernel_size.__class__ is not int:
        kernel_size = ints("kernel_size", kernel_size, rank)
    if stride is None or (isinstance(stride, list | tuple) and not stride):
        stride = kernel_size
    elif stride.__class__ is not int:
        stride = ints("stride", stride, rank)
    if padding.__class__ is not int:
        padding = paddings(padding, rank)
    if dilation.__class__ is not int:
        dilation = ints("dilation", dilation, rank)
    if divisor is not None:
        divisor = integer("divisor_override", divisor)
    if algorithm is not None or policy is not None:
        policy = policy_with(policy, algorithm)
    require_word("layout", layout)
    return PoolArguments(
        kind, rank, kernel_size, stride, padding, dilation, flag("ceil_mode", ceil_mode),
        flag("count_include_pad", count_include_pad), divisor, layout, policy,
    )  # fmt: skip


def adaptive_arguments(
    kind: PoolKind,
    rank: int,
    output_size: Any,
    *,
    layout: str | None = None,
    algorithm: str | None = None,
    policy: Policy | None = None,
) -> PoolArguments:
    """Bring the arguments of an adaptive pooling into their canonical spelling.

    Raises:
        TypeError, ValueError: An argument that means nothing, whatever the array is.
    """
    if algorithm is not None or policy is not None:
        policy = policy_with(policy, algorithm)
    require_word("layout", layout)
    size = output_sizes(output_size, rank)
    return PoolArguments(kind, rank, 1, layout=layout, policy=policy, output_size=size)


def output_sizes(value: Any, rank: int) -> tuple[int | None, ...]:
    """One extent for each axis, at least 1; None among several keeps that of the input.

    Raises:
        TypeError, ValueError: Anything else.
    """
    if isinstance(value, np.ndarray):
        value = value.tolist()
    given = tuple(value) if isinstance(value, list | tuple) else (value,) * rank
    if value is None or len(given) != rank:
        raise ValueError(
            f"output_size is {value!r}; wanted an integer or {rank} of them {_AXIS_WORDS[rank]}, "
            "where None keeps the input's"
        )
    sizes = tuple(None if size is None else integer("output_size", size) for size in given)
    if any(size is not None and size < 1 for size in sizes):
        raise ValueError(f"output_size is {value!r}; wanted at least 1")
    return sizes


def ints(name: str, value: Any, rank: int) -> Ints:
    """One integer, or one for each spatial axis; lists, arrays and NumPy integers are made plain.

    Raises:
        TypeError: Not integers.
        ValueError: Another number of them.
    """
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        values = tuple(integer(name, v) for v in value)
        if len(values) != rank:
            raise ValueError(
                f"{name} is {value!r}; wanted an integer or {rank} of them {_AXIS_WORDS[rank]}"
            )
        return values
    return integer(name, value)


def integer(name: str, value: Any) -> int:
    """A plain int.

    Raises:
        TypeError: Not an integer; bool is none.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise TypeError(
            f"{name} is {value!r} of type {type(value).__name__}; wanted an integer"
        ) from None


def flag(name: str, value: Any) -> bool:
    """A plain bool.

    Raises:
        TypeError: Not True or False.
    """
    if not isinstance(value, bool | np.bool):
        raise TypeError(f"{name} is {value!r} of type {type(value).__name__}; wanted True or False")
    return bool(value)


def require_word(name: str, value: Any) -> None:
    """Raise ``TypeError`` unless a value is a word or None."""
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} is {value!r} of type {type(value).__name__}; wanted a word")


def paddings(value: Any, rank: int) -> Padding:
    """A word, one integer, one for each axis, or a (low, high) pair for each axis.

    Raises:
        TypeError, ValueError: Anything else.
    """
    if isinstance(value, str):
        if value not in _PADDING_WORDS:
            raise ValueError(
                f"padding is {value!r}; wanted integers or one of {', '.join(_PADDING_WORDS)}"
            )
        return value
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple) and any(isinstance(v, list | tuple) for v in value):
        if len(value) == rank and all(isinstance(v, list | tuple) and len(v) == 2 for v in value):
            return tuple((integer("padding", lo), integer("padding", hi)) for lo, hi in value)
        raise ValueError(
            f"padding is {value!r}; wanted {rank} pairs (low, high) for {_AXIS_WORDS[rank]}"
        )
    return ints("padding", value, rank)


def spread(value: Ints, rank: int) -> tuple[int, ...]:
    """One integer for each axis."""
    return value if isinstance(value, tuple) else (value,) * rank


def axes_of(
    size: tuple[int, ...],
    filter_size: Ints,
    stride: Ints,
    padding: Padding,
    dilation: Ints,
    pad_mode: PadMode = PadMode.ZEROS,
) -> tuple[Axis, ...]:
    """The axes of a problem; words of padding become numbers here.

    Raises:
        ValueError: A word of padding that these strides or this rank have no meaning for.
    """
    rank = len(size)
    if isinstance(padding, str):
        resolve = _PADDING_WORDS[padding]
        if padding == "causal" and rank != 1:
            raise ValueError(f"padding 'causal' is for 1 spatial axis; this has {rank}")
    else:
        pairs = [p if isinstance(p, tuple) else (p, p) for p in _each(padding, rank)]
    axes = []
    for i, (n, k, s, d) in enumerate(
        zip(
            size,
            spread(filter_size, rank),
            spread(stride, rank),
            spread(dilation, rank),
            strict=True,
        )
    ):
        if min(k, s, d) < 1:
            lo = hi = 0  # Axis says what is wrong with these
        else:
            lo, hi = resolve(n, d * (k - 1) + 1, s) if isinstance(padding, str) else pairs[i]
        axes.append(
            Axis(size=n, filter=k, stride=s, dilation=d, pad_lo=lo, pad_hi=hi, pad_mode=pad_mode)
        )
    return tuple(axes)


def _each(padding: int | tuple[int, ...] | Pairs, rank: int) -> tuple[int | tuple[int, int], ...]:
    return padding if isinstance(padding, tuple) else (padding,) * rank


def _valid(size: int, extent: int, stride: int) -> tuple[int, int]:
    return 0, 0


def _same(size: int, extent: int, stride: int) -> tuple[int, int]:
    if stride != 1:
        raise ValueError(
            f"padding 'same' needs stride 1, got {stride}, as in PyTorch; 'same_upper' is the "
            "rule of TensorFlow and ONNX for any stride"
        )
    return (extent - 1) // 2, extent // 2


def _same_upper(size: int, extent: int, stride: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + extent - size, 0)
    return total // 2, total - total // 2


def _same_lower(size: int, extent: int, stride: int) -> tuple[int, int]:
    lo, hi = _same_upper(size, extent, stride)
    return hi, lo


def _causal(size: int, extent: int, stride: int) -> tuple[int, int]:
    return extent - 1, 0


_PADDING_WORDS: dict[str, Callable[[int, int, int], tuple[int, int]]] = {
    "valid": _valid,
    "same": _same,
    "same_upper": _same_upper,
    "same_lower": _same_lower,
    "causal": _causal,
}


def channels_last(layout: str | None, rank: int) -> bool:
    """Whether images have their channels last, by a word such as ``nhwc``.

    Raises:
        ValueError: Not a word for this number of axes.
    """
    first, last = (order.image(rank) for order in Order)
    if layout not in (None, first, last):
        raise ValueError(
            f"layout is {layout!r}; wanted {first!r} or {last!r} for {rank} spatial axes"
        )
    return layout == last


def activation_word(word: Any) -> str | None:
    """An activation's name; ``"none"`` is None.

    Raises:
        TypeError: Not a word.
        ValueError: An unknown name.
    """
    require_word("activation", word)
    if word is None or word == "none":
        return None
    if word not in _ACTIVATIONS:
        raise ValueError(f"activation is {word!r}; wanted None or {', '.join(_ACTIVATIONS)}")
    return str(word)


def _element_type(out_dtype: Any) -> DType:
    try:
        return dtype_of(np.dtype(out_dtype), "out_dtype")
    except TypeError:
        raise TypeError(f"out_dtype is {out_dtype!r}; wanted a type such as np.int64") from None


def pad_mode(word: str) -> PadMode:
    """What stands outside the image, by PyTorch's name.

    Raises:
        ValueError: An unknown name.
    """
    if word not in tuple(PadMode):
        raise ValueError(f"padding_mode is {word!r}; wanted {', '.join(PadMode)}")
    return PadMode(word)


def policy_with(policy: Policy | None, algorithm: str | None) -> Policy:
    """A policy that also names the algorithm.

    Raises:
        TypeError: Not a policy, or not a name.
        ValueError: The policy names another algorithm.
    """
    policy = Policy() if policy is None else policy
    if not isinstance(policy, Policy):
        raise TypeError(f"policy is of type {type(policy).__name__}; wanted a convforge.Policy")
    if algorithm is None:
        return policy
    if not isinstance(algorithm, str):
        raise TypeError(f"algorithm is of type {type(algorithm).__name__}; wanted a name")
    if policy.algorithm not in (None, algorithm):
        raise ValueError(
            f"algorithm is {algorithm!r}, but policy.algorithm is {policy.algorithm!r}: "
            "name it in one place"
        )
    return replace(policy, algorithm=algorithm)
