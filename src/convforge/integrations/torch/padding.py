"""Borders and the gradient of having them, with PyTorch's signature."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F

from convforge.integrations.torch.autocast import widened
from convforge.integrations.torch.fallback import NUMBERS, fall_through, refusal
from convforge.integrations.torch.memory import array_of, empty, in_format, is_last, tensor_of
from convforge.integrations.torch.operator import Operator
from convforge.ops.padding import borders_of


def pad(input: Any, pad: Any, mode: str = "constant", value: float | None = None) -> Any:
    """:func:`torch.nn.functional.pad`; contiguous, whatever the input is."""
    why = refusal(NUMBERS, input)
    if why is None and (isinstance(value, complex) or input.dim() == 0):
        why = "a complex border, or no axes"
    if why is None and mode != "constant":
        if not (2 <= input.dim() <= 5 and len(pad) // 2 in (input.dim() - 1, input.dim() - 2)):
            why = f"mode {mode!r} for {len(pad)} widths of {input.dim()} axes"
        elif mode == "replicate" or (mode == "reflect" and len(pad) < 6):
            input = widened(input)
    if why is None:
        try:
            widths = [int(width) for width in pad]
            _require_widths(input.shape, widths, mode)
            number = 0.0 if value is None else float(value)
            if not input.is_floating_point() and not input.is_complex() and number % 1:
                raise ValueError(f"a border of {value} around integers")
            y = _pad(input, widths, mode, number)
            return y.contiguous() if mode == "circular" else y
        except (TypeError, ValueError) as error:
            why = str(error)
    return fall_through(F.pad, why, "", input, pad, mode, value)


def _pairs(axes: int, widths: Any) -> tuple[tuple[int, int], ...]:
    """Low and high width of every axis, from those of the last axes, the last first."""
    pairs = list(zip(widths[::2], widths[1::2], strict=True))
    return tuple([(0, 0)] * (axes - len(pairs)) + pairs[::-1])


def _require_widths(shape: Any, widths: Any, mode: str) -> None:
    """Raise ``ValueError`` unless there are elements for such borders."""
    if len(widths) % 2 or len(widths) > 2 * len(shape):
        raise ValueError(f"{len(widths)} widths for {len(shape)} axes")
    for n, (lo, hi) in zip(shape, _pairs(len(shape), widths), strict=True):
        most = {"reflect": n - 1, "circular": n + min(lo, hi, 0)}.get(mode)
        if n + lo + hi < 1 or (most is not None and max(lo, hi) > most):
            raise ValueError(f"there are no elements for the borders {list(widths)}")


def _is_last(tensor: Any) -> bool:
    return tensor.dim() in (4, 5) and is_last(tensor)


def _run_pad(x: Any, widths: Any, mode: str, value: float) -> Any:
    array = array_of(in_format(x, _is_last(x)))
    return tensor_of(borders_of(array, _pairs(x.dim(), widths), mode).put(array, value))


def _run_unpad(dy: Any, widths: Any, mode: str) -> Any:
    last = _is_last(dy)
    like = array_of(empty(dy, _unpadded(dy.shape, widths), last))
    grad = array_of(in_format(dy, last))
    return tensor_of(borders_of(like, _pairs(dy.dim(), widths), mode).take(grad))


def _padded(shape: Any, widths: Any) -> list[Any]:
    pairs = _pairs(len(shape), widths)
    return [n + lo + hi for n, (lo, hi) in zip(shape, pairs, strict=True)]


def _unpadded(shape: Any, widths: Any) -> list[Any]:
    return _padded(shape, [-width for width in widths])


def _fake_pad(x: Any, widths: Any, mode: str, value: float) -> Any:
    return empty(x, _padded(x.shape, widths), _is_last(x))


def _fake_unpad(dy: Any, widths: Any, mode: str) -> Any:
    return empty(dy, _unpadded(dy.shape, widths), _is_last(dy))


def _keep_pad(ctx: Any, inputs: Any, output: Any) -> None:
    _, ctx.widths, ctx.mode, _ = inputs


def _differentiate_pad(ctx: Any, dy: Any) -> tuple[Any, ...]:
    return _unpad(dy, ctx.widths, ctx.mode), None, None, None


def _keep_unpad(ctx: Any, inputs: Any, output: Any) -> None:
    _, ctx.widths, ctx.mode = inputs


def _differentiate_unpad(ctx: Any, dx: Any) -> tuple[Any, ...]:
    return _pad(dx, ctx.widths, ctx.mode, 0.0), None, None


_pad = Operator(
    "pad(Tensor x, int[] widths, str mode, float value) -> Tensor",
    1, _run_pad, _fake_pad, _keep_pad, _differentiate_pad,
)  # fmt: skip
_unpad = Operator(
    "unpad(Tensor dy, int[] widths, str mode) -> Tensor",
    1, _run_unpad, _fake_unpad, _keep_unpad, _differentiate_unpad,
)  # fmt: skip
