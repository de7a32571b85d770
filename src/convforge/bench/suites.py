"""Suites of layers to measure: the networks in ``shapes/``, and ``foundation``.

A file of ``shapes/`` holds one problem a line; ``#`` begins a comment, and a comment behind a
problem is its label.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files

from convforge.problem import Axis, ConvProblem, Direction, DType, Order, Problem, parse

FOUNDATION = "foundation"
_FOUNDATION_LAYERS = (
    "n1c3h224w224_k64r7s7_st2x2_p3x3",
    "n1c64h56w56_k64r1s1",
    "n1c64h56w56_k64r3s3_p1x1",
    "n1c256h56w56_k64r1s1",
    "n1c128h56w56_k128r3s3_st2x2_p1x1",
    "n1c128h28w28_k128r3s3_p1x1",
    "n1c512h28w28_k128r1s1",
    "n1c256h14w14_k256r3s3_p1x1",
    "n1c1024h14w14_k256r1s1",
    "n1c512h7w7_k512r3s3_p1x1",
    "n1c2048h7w7_k512r1s1",
    "n1c256h56w56_k256r3s3_p1x1",
    "n1c256h28w28_k256r3s3_p2x2_d2x2",
)
"""The dense shapes of ResNet-50, VGG-16 and a dilated backbone, one image each."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A problem and what people call it.

    Attributes:
        label: Its name. problem: What is computed.
        passes: How much is computed of that size: 3 in a training step.
    """

    label: str
    problem: Problem
    passes: int = 1


def names() -> tuple[str, ...]:
    """Every suite, sorted."""
    shapes = files("convforge.bench") / "shapes"
    found = (entry.name for entry in shapes.iterdir()) if shapes.is_dir() else ()
    return tuple(sorted({FOUNDATION, *(n[: -len(".txt")] for n in found if n.endswith(".txt"))}))


def load(name: str) -> tuple[Layer, ...]:
    """The layers of one suite.

    Raises:
        ValueError: No suite has this name; lists those there are.
    """
    if name == FOUNDATION:
        problems = (parse(f"fprop:f32:nhwc-krsc:{layer}") for layer in _FOUNDATION_LAYERS)
        return tuple(Layer(describe(problem), problem) for problem in problems)
    if name not in names():
        raise ValueError(f"no suite {name!r}; there are {', '.join(names())}")
    path = files("convforge.bench") / "shapes" / f"{name}.txt"
    return read(path.read_text(encoding="utf-8"))


def read(text: str) -> tuple[Layer, ...]:
    """Layers of a shape file's text."""
    layers = []
    for line in text.splitlines():
        spelling, _, comment = line.partition("#")
        if spelling.strip():
            problem = parse(spelling)
            layers.append(Layer(comment.strip() or describe(problem), problem))
    return tuple(layers)


def resolve(words: Sequence[str]) -> tuple[Layer, ...]:
    """Layers of suites and problem strings, in the order given.

    Raises:
        ValueError: A word is neither a suite nor the spelling of a problem.
    """
    layers: list[Layer] = []
    for word in words:
        if ":" in word:
            problem = parse(word)
            layers.append(Layer(f"{describe(problem)}{_unusual(problem)}", problem))
        else:
            layers += load(word)
    return tuple(layers)


def describe(problem: Problem) -> str:
    """A short name for tables, such as ``3x3/2 128→256 @56``."""
    window = "x".join(map(str, problem.filter))
    strides = {axis.stride for axis in problem.axes}
    dilations = {axis.dilation for axis in problem.axes}
    if strides != {1}:
        window += "/" + "x".join(map(str, sorted(strides)))
    if dilations != {1}:
        window += " dilation " + "x".join(map(str, sorted(dilations)))
    if isinstance(problem, ConvProblem):
        channels = f"{problem.C}→{problem.K}" + _groups(problem)
    else:
        channels = f"{problem.kind} {problem.C}"
    size = "x".join(map(str, problem.size if len(set(problem.size)) > 1 else problem.size[:1]))
    batch = f" n{problem.N}" if problem.N != 1 else ""
    return f"{window} {channels} @{size}{batch}"


def _unusual(problem: Problem) -> str:
    """What a label must add where layers of all kinds stand side by side."""
    last = problem.x.order is Order.CHANNELS_LAST
    words = [problem.x.order.image(problem.rank)] if last else []
    words += [str(problem.direction)] if problem.direction is not Direction.FPROP else []
    words += [str(problem.x.dtype)] if problem.x.dtype is not DType.F32 else []
    return "".join(f" {word}" for word in words)


def _groups(problem: ConvProblem) -> str:
    if problem.groups == 1:
        return ""
    return " depthwise" if problem.groups == problem.C else f" g{problem.groups}"


def in_order(layers: Iterable[Layer], order: Order) -> tuple[Layer, ...]:
    """The same layers with images and filters in one memory order."""
    return tuple(replace(layer, problem=_in_order(layer.problem, order)) for layer in layers)


def _in_order(problem: Problem, order: Order) -> Problem:
    x = replace(problem.x, order=order)
    if not isinstance(problem, ConvProblem):
        return replace(problem, x=x)
    w, y = (replace(operand, order=order) for operand in (problem.w, problem.y))
    return replace(problem, x=x, w=w, y=y)


def gradients(layers: Iterable[Layer], direction: Direction) -> tuple[Layer, ...]:
    """The gradients of the same layers."""
    return tuple(
        replace(layer, problem=replace(layer.problem, direction=direction)) for layer in layers
    )


def tiny() -> ConvProblem:
    """A convolution with next to no work, to measure the cost of a call."""
    axis = Axis(size=4, filter=3, pad_lo=1, pad_hi=1)
    return ConvProblem(N=1, C=1, K=1, axes=(axis, axis))
