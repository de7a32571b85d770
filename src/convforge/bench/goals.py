"""Numbers that the package promises itself, next to what was measured."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from convforge.bench import models
from convforge.bench.avx2 import LIBRARIES
from convforge.bench.foundation import Foundation
from convforge.bench.measure import OURS, Table, key
from convforge.bench.models import Model
from convforge.bench.peers import family
from convforge.bench.rows import Row
from convforge.bench.scaling import Scaling
from convforge.bench.startup import Startup
from convforge.bench.timer import geometric_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """One number, and what it should be.

    Attributes:
        name: What is measured. value: What came; NaN if it could not be measured.
        wanted: The limit. at_most: Smaller is better.
        unit: Behind both numbers. note: Of how many layers, or of which one.
    """

    name: str
    value: float
    wanted: float
    at_most: bool = False
    unit: str = ""
    note: str = ""

    @property
    def met(self) -> bool:
        """Whether the number is on the right side of its limit."""
        return self.value <= self.wanted if self.at_most else self.value >= self.wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """Of one table of a group, on every number of threads.

    Attributes:
        mean: Geometric mean over the layers, of the ratio to the fastest peer on each; None if
            nothing is promised of it.
        lowest: Of the same ratios; None if nothing is promised for single layers.
        row: How convforge runs.
        peers: Libraries, or single peers, to compare with: the fastest of these on each layer;
            empty for all.
        layers: Only those whose labels have this in them.
        as_time: ``mean`` is a time, as a multiple of the peer's, and not to be exceeded.
    """

    mean: float | None = None
    lowest: float | None = None
    row: Row = Row.WARM
    peers: tuple[str, ...] = ()
    layers: str = ""
    as_time: bool = False


def _both(mean: float, lowest: float) -> tuple[Promise, ...]:
    return (Promise(mean=mean, lowest=lowest),)


_WINOGRAD = (
    Promise(mean=1.3, lowest=1.0),
    Promise(mean=2.0, peers=("torch",)),
    Promise(mean=2.0, peers=("onnxruntime",)),
)
_PHASES = (Promise(mean=1.5, layers="dilation"), Promise(mean=1.2, layers="3x3/2"))
_AS_NCHW = tuple(
    Promise(lowest=0.97, row=row, peers=("torch-nchw",)) for row in (Row.WARM, Row.FUNCTIONAL)
)
"""Nobody who keeps channels first, as PyTorch does by default, should lose by coming."""
_STEP = (Promise(mean=1.3, lowest=0.95, row=Row.PLAIN),)
PROMISES: dict[str, tuple[Promise, ...]] = {
    "conv3x3_batch1": (*_WINOGRAD, Promise(mean=1.15, lowest=0.97, row=Row.COLD)),
    "conv3x3_batch16": _WINOGRAD,
    "pointwise_batch1": _both(1.1, 0.95),
    "pointwise_batch16": _both(1.1, 0.95),
    "dense_batch1": (*_both(1.0, 0.95), *_PHASES),
    "dense_batch16": (*_both(1.08, 0.95), *_PHASES),
    "depthwise_batch1": _both(1.5, 1.0),
    "depthwise_batch16": _both(1.5, 1.0),
    "depthwise_large": _both(1.2, 1.0),
    "grouped_batch1": _both(1.3, 0.97),
    "grouped_batch16": _both(1.3, 0.97),
    "one_axis_batch1": _both(1.1, 0.95),
    "one_axis_batch16": _both(1.1, 0.95),
    "three_axes_batch1": _both(1.5, 0.95),
    "training_resnet50": _STEP,
    "training_vgg19": _STEP,
    "float64_resnet50": _both(2.2, 1.0),
    "bfloat16_resnet50": _both(0.9, 0.7),
    **{
        f"pooling_{part}": (Promise(mean=1.5, lowest=0.97, peers=("torch",)),)
        for part in (
            "nhwc",
            "nchw",
            "backward",
            "backward_nchw",
            "nhwc16",
            "nchw16",
            "backward16",
            "backward_nchw16",
        )
    },
    "linear_batch1": _both(1.3, 0.97),
    "linear_batch16": _both(1.3, 0.97),
    "tiny_batch1": (Promise(mean=1.2, as_time=True),),
    **{
        f"{group}_nchw": _AS_NCHW
        for group in (
            "conv3x3",
            "pointwise",
            "dense",
            "depthwise",
            "grouped",
            "one_axis",
            "three_axes",
        )
    },
}
"""By table: ``<group>_<part>``."""

_SHARE_ON_AVX2 = 0.9
"""Of the ratios that are promised on whatever the processor has."""


def _on_avx2(promise: Promise) -> Promise:
    return replace(promise, mean=_on_less(promise.mean), lowest=_on_less(promise.lowest))


def _on_less(ratio: float | None) -> float | None:
    return None if ratio is None else round(_SHARE_ON_AVX2 * ratio, 4)


PROMISES |= {
    f"avx2_{table}": tuple(
        _on_avx2(promise) for promise in PROMISES[table] if set(promise.peers) <= set(LIBRARIES)
    )
    for group in ("conv3x3", "pointwise", "dense")
    for table in (f"{group}_batch1", f"{group}_batch16")
}

_RATIOS: dict[str, dict[tuple[Row, int], tuple[float, float | None]]] = {
    # table: {(row, 1 thread or more): (geometric mean, lowest layer)}
    "fprop_nhwc": {
        (Row.WARM, 2): (1.10, 0.95),
        (Row.WARM, 1): (1.30, 0.95),
        (Row.FUNCTIONAL, 2): (1.0, None),
        (Row.FUNCTIONAL, 1): (1.0, None),
    },
    "fprop_nchw": {(Row.FUNCTIONAL, 2): (1.1, 0.9), (Row.FUNCTIONAL, 1): (1.1, 0.9)},
    "dgrad_nhwc": {(Row.WARM, 2): (0.9, None), (Row.WARM, 1): (0.9, None)},
    "wgrad_nhwc": {(Row.WARM, 2): (0.9, None), (Row.WARM, 1): (0.9, None)},
}

_DEVIATION = 20
"""Percent that a time may be off the straight line."""


def of_group(tables: Iterable[Table]) -> Iterator[Goal]:
    """What each table of a group promises, if the peers that this takes were measured."""
    for table in tables:
        for promise in PROMISES.get(table.name, ()):
            wanted = set(promise.peers)
            among = [peer for peer in table.peers if not wanted or wanted & {peer, family(peer)}]
            if among:
                yield from _of_promise(table, promise, among)


def _of_promise(table: Table, promise: Promise, peers: list[str]) -> Iterator[Goal]:
    every = table.best_ratios(promise.row, peers)
    ratios = {label: ratio for label, ratio in every.items() if promise.layers in label}
    against = " and ".join(promise.peers) or "the best peer"
    plural = "s" * (table.threads != 1)
    which = f", {promise.layers}" * bool(promise.layers)
    name = f"{table.title}{which}, {promise.row}, {table.threads} thread{plural}"
    if promise.mean is not None:
        mean = geometric_mean(list(ratios.values()))
        asked = len(ratios) if promise.layers else table.asked
        yield Goal(
            name=f"{name}: time / {against}" if promise.as_time else f"{name}: × {against}",
            value=1 / mean if promise.as_time else mean,
            wanted=promise.mean,
            at_most=promise.as_time,
            note=_of_how_many(len(ratios), asked),
        )
    if promise.lowest is not None:
        label = min(ratios, key=ratios.__getitem__, default="")
        value = ratios.get(label, math.nan)
        ending = f", × {against}" * bool(promise.peers)
        yield Goal(
            name=f"{name}: slowest layer{ending}", value=value, wanted=promise.lowest, note=label
        )


def _of_how_many(measured: int, asked: int) -> str:
    if measured < asked:
        return f"{measured} of {asked} layers"
    return f"{measured} layer{'s' * (measured != 1)}"


def of(found: Foundation) -> list[Goal]:
    """All of them."""
    return [*of_tables(found.tables), *of_startup(found.startup), *of_calls(found.tiny)]


def of_tables(tables: Iterable[Table], peer: str = "torch") -> Iterator[Goal]:
    """Geometric mean and lowest ratio of each table that promises something."""
    for table in tables:
        for (row, threads), (mean, lowest) in _RATIOS.get(table.name, {}).items():
            if min(table.threads, 2) != threads or peer not in table.peers:
                continue
            ratios = table.ratios(row, peer)
            name = f"{table.title}, {row}, {table.threads} thread{'s' * (table.threads != 1)}"
            yield Goal(name=f"{name}: × {peer}", value=geometric_mean(ratios), wanted=mean)
            if lowest is not None:
                value = min(ratios, default=math.nan)
                yield Goal(name=f"{name}: slowest layer", value=value, wanted=lowest)


def of_scaling(found: Scaling) -> Iterator[Goal]:
    """How straight the lines are."""
    for series in found.series:
        deviation, at = series.deviation()
        yield Goal(
            name=f"time against {series.quantity}, {series.algorithm}: largest deviation",
            value=100 * deviation,
            wanted=_DEVIATION,
            at_most=True,
            unit=" %",
            note=f"at {at}",
        )


_MODELS: dict[tuple[str, int], tuple[float, float | None, float | None]] = {
    # (network, batch): convert and optimize against PyTorch, optimize against onnxruntime
    ("ResNet-50", 1): (1.1, 1.3, 1.05),
    ("ResNet-50", 8): (1.2, 1.5, 1.2),
    ("VGG-16", 1): (1.6, 1.6, None),
    ("VGG-16", 8): (1.6, 1.6, None),
    ("ConvNeXt-T", 1): (1.3, 1.3, None),
    ("ConvNeXt-T", 8): (1.3, 1.3, None),
    ("MobileNetV2", 1): (1.0, 1.3, None),
    ("MobileNetV2", 8): (1.0, 1.3, None),
    ("ResNet-18", 16): (1.15, None, None),
    ("VGG-11", 16): (1.15, None, None),
}


def of_models(found: Iterable[Model]) -> Iterator[Goal]:
    """How many times faster whole networks are than PyTorch in its better memory order."""
    for model in found:
        convert, optimize, session = _MODELS[model.name, model.batch]
        for ours, theirs, wanted in (
            (models.CONVERT, models.TORCH, convert),
            (models.OPTIMIZE, models.TORCH, optimize),
            (models.OPTIMIZE, (models.ONNXRUNTIME,), session),
        ):
            if wanted is not None:
                peer = "PyTorch" if theirs is models.TORCH else models.ONNXRUNTIME
                yield Goal(
                    name=f"{model.title}, {ours}: × {peer}",
                    value=model.ratio(ours, theirs),
                    wanted=wanted,
                )


def of_startup(startup: Startup) -> Iterator[Goal]:
    """Import, first call ever, first call of a process."""
    above = (startup.new_process_s - startup.trivial_s) * 1e3
    for name, value, wanted, unit in (
        ("import convforge, NumPy imported", startup.import_s * 1e3, 50, " ms"),
        ("first conv2d ever, nothing compiled", startup.first_ever_s, 4, " s"),
        ("first conv2d of a process, above a trivial cached Numba call", above, 250, " ms"),
    ):
        yield Goal(name=name, value=value, wanted=wanted, unit=unit, at_most=True)


def of_calls(tiny: Table) -> Iterator[Goal]:
    """Microseconds of a call with next to no work."""
    for row, name, wanted in ((Row.WARM, "plan", 6), (Row.FUNCTIONAL, "function", 12)):
        for one in tiny.measured:
            timing = one.timings.get(key(OURS, row))
            value = math.nan if timing is None else timing.median_s * 1e6
            name = f"warm call on 1x1x4x4, {name}"
            yield Goal(name=name, value=value, wanted=wanted, unit=" µs", at_most=True)
