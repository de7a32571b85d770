"""Fprop and dgrad of small groups, channels last: strips along a row, a few groups a vector."""

from __future__ import annotations

from convforge.contract import Cost, KernelRef, Step
from convforge.kernels.cpu._depthwise_axes import (
    AXIS_BYTES,
    axis_view,
    extents,
    pack_axis,
    taps_inside,
    three_axes,
)
from convforge.kernels.cpu._group_strip import (
    GroupStrip,
    group_members,
    group_outputs,
    group_tap,
    group_turns,
    group_zeros,
)
from convforge.kernels.cpu._store import STORE_BYTES, pack_store, store_rows, store_view
from convforge.kernels.cpu._strip import strip_pixels, strip_store, strip_zeros
from convforge.kernels.cpu._vector import itemsize, lanes, vector_bytes
from convforge.problem import ConvProblem
from convforge.runtime.args import Layout
from convforge.runtime.jit import device, kernel
from convforge.runtime.rawmem import clear_bytes, load_word, store_word
from convforge.runtime.tasks import claimed

_BAND = 8
"""Rows of a task."""
_TASKS = 16
"""Wanted, for a few threads to share evenly; with fewer bands, channels are split."""
_TAP_BYTES = 24
"""Of an entry of the list of taps."""

_ROWS = Layout(
    "GroupedRows",
    "images channels group band taps plain scratch_bytes from_d from_h from_w to_d to_h to_w",
)
_rows = _ROWS.view
_ROWS_BYTES = _ROWS.nbytes
_POINTERS = Layout("GroupedPointers", "source packed output bias residual scratch")
_pointers = _POINTERS.view


@device
def _list_taps(strip, g, axes, d, h, taps):
    """List the taps that depth d and row h of the output meet; the address behind the last.

    Bytes from the image's first pixel, bytes from the first weight, places along the row.
    """
    d_axis, h_axis, w_axis = axes
    pixel = g.channels * itemsize(strip)
    tap_bytes = group_members(strip) * vector_bytes(strip)
    d_low, d_high = taps_inside(d_axis, d)
    h_low, h_high = taps_inside(h_axis, h)
    for kd in range(d_low, d_high):
        depth = d_axis.first + d * d_axis.step + kd * d_axis.tap_step
        d_tap = (d_axis.tap_first + kd * d_axis.tap_apart) * h_axis.filter
        for kh in range(h_low, h_high):
            row = depth * g.from_h + h_axis.first + h * h_axis.step + kh * h_axis.tap_step
            h_tap = (d_tap + h_axis.tap_first + kh * h_axis.tap_apart) * w_axis.filter
            for kw in range(w_axis.taps):
                place = kw * w_axis.tap_step
                store_word(taps, (row * g.from_w + place) * pixel)
                tap = h_tap + w_axis.tap_first + kw * w_axis.tap_apart
                store_word(taps + 8, tap * tap_bytes)
                store_word(taps + 16, place)
                taps += _TAP_BYTES
    return taps


@kernel
def grouped_rows(strip, constants, pointers, worker, work):
    """Sum taps, a vector of channels after the other; a task is some channels of a band of rows.

    Scratch: zeros, the sums on their way out, the pixels they go to, the taps of a row.
    """
    g, p = _rows(constants), _pointers(pointers)
    s = store_view(constants + _ROWS_BYTES)
    d_axes = constants + _ROWS_BYTES + STORE_BYTES
    d_phases = axis_view(d_axes).phases
    h_axes = d_axes + d_phases * AXIS_BYTES
    h_phases = axis_view(h_axes).phases
    w_axes = h_axes + h_phases * AXIS_BYTES
    w_phases = axis_view(w_axes).phases
    size, width, vector = itemsize(strip), lanes(strip), vector_bytes(strip)
    pixel, pixels = g.channels * size, strip_pixels(strip)
    rounds, round_bytes = group_members(strip) // group_turns(strip), group_turns(strip) * vector
    tap_bytes = rounds * round_bytes
    nothing = p.scratch + worker * g.scratch_bytes
    slab = nothing + vector
    table = slab + 2 * pixels * vector
    taps = table + 8 * pixels
    clear_bytes(nothing, vector)
    bands = (g.to_h + g.band - 1) // g.band
    planes = g.images * g.to_d * bands
    for task in claimed(work, worker):
        group, rest = task // planes, task % planes
        band, plane = rest % bands, rest // bands
        d, image = plane % g.to_d, plane // g.to_d
        begin = group * g.group
        d_axis = axis_view(d_axes + d % d_phases * AXIS_BYTES)
        image_bytes = g.from_d * g.from_h * g.from_w * pixel
        for c in range(begin, min(begin + g.group, g.channels), width):
            at = min(c, g.channels - width)
            done = c - at
            source = p.source + image * image_bytes + at * size
            weights = p.packed + c // width * g.taps * tap_bytes
            for h in range(band * g.band, min((band + 1) * g.band, g.to_h)):
                h_axis = axis_view(h_axes + h % h_phases * AXIS_BYTES)
                for phase in range(w_phases):
                    w_axis = axis_view(w_axes + phase * AXIS_BYTES)
                    axes = d_axis, h_axis, w_axis
                    met = _list_taps(strip, g, axes, d // d_phases, h // h_phases, taps)
                    step = w_axis.step * pixel
                    end = (pixels - 1) * w_axis.step + (w_axis.taps - 1) * w_axis.tap_step
                    for i in range(0, w_axis.count, pixels):
                        count = min(pixels, w_axis.count - i)
                        q = w_axis.first + i * w_axis.step
                        inside = int(q >= 0 and q + end < w_axis.size)
                        x = source + q * pixel
                        outputs = strip_zeros(strip)
                        w = weights + rounds * round_bytes
                        for _ in range(rounds):
                            w -= round_bytes
                            sums = group_zeros(strip)
                            for tap in range(taps, met, _TAP_BYTES):
                                sums = group_tap(
                                    strip,
                                    sums,
                                    x + load_word(tap),
                                    step,
                                    q + load_word(tap + 16),
                                    w_axis.step,
                                    w_axis.size,
                                    inside,
                                    nothing,
                                    w + load_word(tap + 8),
                                )
                            outputs = group_outputs(strip, sums, outputs)
                        target = (plane * g.to_h + h) * g.to_w + phase + i * w_phases
                        if g.plain and done == 0:
                            place = p.output + target * pixel + at * size
                            strip_store(strip, outputs, place, w_phases * pixel, count, width)
                            continue
                        strip_store(strip, outputs, slab, vector, pixels, width)
                        for t in range(count):
                            store_word(table + 8 * t, target + t * w_phases)
                        left = c * size
                        store_rows(
                            strip,
                            s,
                            slab + done * size,
                            count,
                            width - done,
                            table,
                            p.output + left,
                            p.bias + left,
                            p.residual + left,
                        )


def grouped_step(
    problem: ConvProblem, strip: GroupStrip, operands: tuple[str, ...]
) -> tuple[Step, int]:
    """The launch, and the scratch bytes of a worker."""
    size = problem.x.dtype.itemsize
    vector = strip.lanes * size
    vectors = -(-problem.C // strip.lanes)
    scratch = (2 * strip.pixels + 1) * vector + 8 * strip.pixels + _TAP_BYTES * problem.taps
    scratch = -(-scratch // 64) * 64
    shape = extents(problem)
    band = min(_BAND, shape["to_h"])
    bands = problem.N * shape["to_d"] * -(-shape["to_h"] // band)
    pieces = min(vectors, -(-_TASKS // bands))
    group = -(-vectors // pieces) * strip.lanes
    constants = _ROWS.pack(
        images=problem.N,
        channels=problem.C,
        group=group,
        band=band,
        taps=problem.taps,
        plain=not (problem.post or problem.accumulate),
        scratch_bytes=scratch,
        **shape,
    )
    constants += pack_store(problem, problem.C * size)
    constants += b"".join(pack_axis(problem, axis) for axis in three_axes(problem))
    columns = shape["to_w"]
    computed = -(-columns // strip.pixels) * strip.pixels * vectors * strip.lanes
    step = Step(
        name="slide",
        kernel=KernelRef(grouped_rows, strip),
        operands=operands,
        constants=constants,
        tasks=-(-problem.C // group) * bands,
        cost=Cost(flops=problem.flops * computed // (columns * problem.C), bytes=problem.bytes),
    )
    return step, scratch
