"""Layers picked from the networks, and the same layers in other orders, types and batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from convforge.bench import suites
from convforge.bench.suites import Layer
from convforge.problem import (
    ConvProblem,
    Direction,
    DType,
    Order,
    PoolProblem,
    Problem,
    parse,
)

Wanted = Callable[[ConvProblem], bool]


def pick(*networks: str, where: Callable[[Problem], bool] = lambda problem: True) -> list[Layer]:
    """Layers of networks that are so, each problem once, labelled by what it computes."""
    problems: dict[Problem, str] = {}
    for network in networks:
        for layer in suites.load(network):
            if where(layer.problem):
                problems.setdefault(layer.problem, network)
    return labelled(problems)


def labelled(problems: dict[Problem, str]) -> list[Layer]:
    """Layers with short labels; where two would be equal, the later one names its network."""
    layers: dict[str, Layer] = {}
    for problem, network in problems.items():
        label = suites.describe(problem)
        label = f"{label} ({network})" if label in layers else label
        layers[label] = Layer(label, problem)
    return list(layers.values())


def spelled(*spellings: str) -> list[Layer]:
    """Layers that no shape file has."""
    return labelled({parse(spelling): "spelled" for spelling in spellings})


def last(layers: Iterable[Layer]) -> tuple[Layer, ...]:
    """In NHWC."""
    return suites.in_order(layers, Order.CHANNELS_LAST)


def first(layers: Iterable[Layer]) -> tuple[Layer, ...]:
    """In NCHW."""
    return suites.in_order(layers, Order.CHANNELS_FIRST)


def batch(layers: Iterable[Layer], N: int) -> list[Layer]:
    """With so many images; the title of their table says it, their labels do not."""
    return [replace(layer, problem=replace(layer.problem, N=N)) for layer in layers]


def of_size(layers: Iterable[Layer], *sizes: str) -> list[Layer]:
    """Those whose label is one of these."""
    kept = [layer for layer in layers if layer.label in sizes]
    if len(kept) != len(sizes):
        raise ValueError(f"wanted {sizes}, found {[layer.label for layer in kept]}")
    return kept


def of_dtype(layers: Iterable[Layer], dtype: DType) -> list[Layer]:
    """Images, weights and results of another type."""
    return [replace(layer, problem=_of_dtype(layer.problem, dtype)) for layer in layers]


def _of_dtype(problem: Problem, dtype: DType) -> Problem:
    _, _, size = str(problem).partition(":f32:")
    return parse(f"{problem.direction}:{dtype}:{size}")


def forward(test: Wanted) -> Callable[[Problem], bool]:
    """The test for forward convolutions; nothing else passes."""

    def where(problem: Problem) -> bool:
        if not isinstance(problem, ConvProblem) or problem.direction is not Direction.FPROP:
            return False
        return test(problem)

    return where


def has_filter(problem: ConvProblem, size: int) -> bool:
    """Whether every extent of the filter is this."""
    return set(problem.filter) == {size}


def stride(problem: ConvProblem) -> int:
    """The largest of all axes."""
    return max(axis.stride for axis in problem.axes)


def backward(layers: Iterable[Layer]) -> list[Layer]:
    """The gradients of poolings."""
    return [
        replace(layer, problem=replace(layer.problem, direction=Direction.DGRAD))
        for layer in layers
        if isinstance(layer.problem, PoolProblem)
    ]
