"""The steps of an FFT convolution whose products sum over channels, as data."""

from __future__ import annotations

from convforge.contract import Buffer, Cost, KernelRef, Program, Step, WeightFormat
from convforge.kernels.cpu._fft_output import Output
from convforge.kernels.cpu._fft_products import (
    PRODUCTS,
    SUMS,
    correlate_spectra,
    multiply_spectra,
)
from convforge.kernels.cpu._fft_shape import filter_window, gradient_window, image_window
from convforge.kernels.cpu._fft_work import Strides, Work, rows_of, strides, uneven
from convforge.problem import Direction

_STREAMED = 4 << 20
"""Spectra of filters from so many bytes on are written past the caches, a line a store: 9.0 ms
instead of 12.5 for 61 MB."""


def weight_format(work: Work) -> WeightFormat:
    """Spectra of the filters as panels: ``[group][frequency][block][Im, Re][input][width]``."""
    problem, size = work.problem, work.size
    at = strides(problem.w.order, size, 1, problem.group_C, tuple(a.filter for a in work.axes))
    swapped = problem.direction is Direction.DGRAD
    group = problem.group_K * at.image
    image, channel = (at.image, at.channel) if swapped else (at.channel, at.image)
    panel_row = work.tile.width * size
    nbytes = problem.groups * work.frequencies * work.filters
    step = work.transform(
        "w",
        "packed",
        "packing",
        tuple(
            filter_window(problem.direction, *each)
            for each in zip(work.axes, work.cuts, at.axes, strict=True)
        ),
        Strides(group, image, channel, at.axes),
        work.inputs,
        work.outputs,
        {
            "spectral_group": work.frequencies * work.filters,
            "frequency": work.filters,
            "row": panel_row,
            "block": work.panel,
            "blocks_wide": panel_row // work.vector,
            "real": work.inputs * panel_row,
            "imaginary": 0,
            "streams": work.vector == 64 and nbytes >= _STREAMED,
        },
    )
    return WeightFormat(
        id=work.format_id(),
        nbytes=nbytes,
        pack=Program(steps=(step,), buffers=(work.scratch("packing"),)),
    )


def gather_program(work: Work, chunk: int) -> Program:
    """Fprop and dgrad: transform, multiply and transform back, ``chunk`` tiles at a time."""
    problem, tile, size = work.problem, work.tile, work.size
    source, output = ("y", "x") if problem.direction is Direction.DGRAD else ("x", "y")
    at, _ = work.image(source)
    windows = tuple(
        image_window(problem.direction, *each)
        for each in zip(work.axes, work.cuts, at.axes, strict=True)
    )
    part = work.padded(work.inputs, tile.lanes)
    result_row = work.blocks * tile.width * size
    result = uneven(-(-2 * chunk // tile.rows) * tile.rows * result_row)
    matrix = uneven(chunk * 3 * part)
    matrices = problem.groups * work.frequencies
    end = Output(work, output, problem.N)
    steps = []
    for first in range(0, work.rows, chunk):
        rows = min(chunk, work.rows - first)
        spectrum = rows_of(part, chunk, work.frequencies)
        steps.append(
            work.transform(
                source, "spectra", "lines", windows, at, rows, work.inputs, spectrum, first
            )
        )
        padded = -(-2 * rows // tile.rows) * tile.rows
        steps.append(
            Step(
                name="multiply",
                kernel=KernelRef(multiply_spectra, tile),
                operands=("spectra", "packed", "products", "lines"),
                constants=PRODUCTS.pack(
                    frequencies=matrices,
                    rows=rows,
                    inputs=work.inputs,
                    blocks=work.blocks,
                    matrix=matrix,
                    row=3 * part,
                    part=part,
                    filters=work.filters,
                    panel=work.panel,
                    result=result,
                    result_row=result_row,
                    scratch_bytes=work.worker,
                ),
                tasks=matrices,
                cost=Cost(
                    flops=4 * matrices * padded * work.inputs * work.blocks * tile.width,
                    bytes=matrices * (work.blocks * work.panel + rows * 3 * part),
                ),
            )
        )
        steps.append(end.step("products", first, rows, result, result_row, work.outputs, 1))
    return Program(
        steps=(*end.before, *steps, *end.after),
        buffers=(
            *end.buffers,
            Buffer(name="spectra", nbytes=matrices * matrix),
            Buffer(name="products", nbytes=matrices * result),
            work.scratch(),
        ),
    )


def filter_gradient_program(work: Work) -> Program:
    """Wgrad: transform x and dy, correlate over tiles and images, transform back."""
    problem, tile, size = work.problem, work.tile, work.size
    steps, parts = [], []
    for name, window, multiple in (("y", None, tile.lanes), ("x", image_window, tile.width)):
        at, channels = work.image(name)
        windows = tuple(
            window(problem.direction, axis, cut, stride)
            if window
            else gradient_window(axis, cut, stride)
            for axis, cut, stride in zip(work.axes, work.cuts, at.axes, strict=True)
        )
        part = work.padded(channels, multiple)
        spectrum = rows_of(part, work.rows, work.frequencies)
        target = f"{name}_spectra"
        steps.append(
            work.transform(name, target, "lines", windows, at, work.rows, channels, spectrum)
        )
        parts.append(part)
    left, right = parts
    outputs = -(-problem.group_K // tile.rows) * tile.rows
    matrices = problem.groups * work.frequencies
    result = uneven(2 * outputs * right)
    steps.append(
        Step(
            name="correlate",
            kernel=KernelRef(correlate_spectra, tile),
            operands=("y_spectra", "x_spectra", "sums"),
            constants=SUMS.pack(
                frequencies=matrices,
                rows=work.rows,
                outputs=problem.group_K,
                blocks=right // (tile.width * size),
                left=uneven(work.rows * 3 * left),
                left_row=3 * left,
                left_part=left,
                right=uneven(work.rows * 3 * right),
                right_row=3 * right,
                right_part=right,
                result=result,
                result_row=right,
            ),
            tasks=matrices,
            cost=Cost(
                flops=8 * matrices * work.rows * outputs * right // size,
                bytes=matrices * 2 * outputs * right,
            ),
        )
    )
    end = Output(work, "w", problem.K)
    steps.append(end.step("sums", 0, problem.group_K, result, right, problem.group_C, -1))
    return Program(
        steps=(*end.before, *steps, *end.after),
        buffers=(
            *end.buffers,
            # The tile reads some channels beyond the last ones of dy.
            Buffer(
                name="y_spectra", nbytes=matrices * uneven(work.rows * 3 * left) + tile.rows * size
            ),
            Buffer(name="x_spectra", nbytes=matrices * uneven(work.rows * 3 * right)),
            Buffer(name="sums", nbytes=matrices * result),
            work.scratch(),
        ),
    )
