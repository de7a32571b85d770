"""From the transform domain to pixels: a block of tiles, one panel's width of channels.

Bias, relu and relu6 are applied in registers, whole tiles go straight to memory. What is left
goes through a slab of one row of neighbouring tiles: partial tiles, channels first, other ops.
"""

from __future__ import annotations

import numpy as np

from convforge.contract import Machine
from convforge.kernels.cpu._convert import vectors_of
from convforge.kernels.cpu._store import put_planes, put_rows
from convforge.kernels.cpu._vector import (
    itemsize,
    lanes,
    load,
    load_first,
    scalar,
    splat,
    store_first,
    vector_bytes,
    zeros,
)
from convforge.kernels.cpu._winograd_transform import Winograd, outputs, transform_output
from convforge.kernels.cpu._winograd_windows import WINDOWS_AHEAD, Windows, is_far
from convforge.problem import ConvProblem, PostOp
from convforge.runtime.args import Layout
from convforge.runtime.jit import device
from convforge.runtime.rawmem import prefetch_to_write, store_word

OUTPUT = Layout(
    "WinogradOutput",
    "out_h out_w image step_h step_w grid_h grid_w run_h run_w plane_bytes low high simple ahead",
)
output_view = OUTPUT.view
OUTPUT_BYTES = OUTPUT.nbytes
_IN_REGISTERS = {PostOp.BIAS, PostOp.RELU, PostOp.RELU6}


def pack_output(
    problem: ConvProblem, windows: Windows, image: int, plane_bytes: int, machine: Machine
) -> bytes:
    """The struct ``OUTPUT``; ``image`` is how far images are apart, in rows of the output."""
    pixel_bytes = windows.outputs * problem.groups * problem.x.dtype.itemsize
    simple = not problem.accumulate and set(problem.post) <= _IN_REGISTERS
    return OUTPUT.pack(
        out_h=windows.target[0],
        out_w=windows.target[1],
        image=image,
        step_h=windows.step[0],
        step_w=windows.step[1],
        grid_h=windows.grid[0],
        grid_w=windows.grid[1],
        run_h=windows.run[0],
        run_w=windows.run[1],
        plane_bytes=plane_bytes,
        low=simple and bool({PostOp.RELU, PostOp.RELU6} & set(problem.post)),
        high=simple and PostOp.RELU6 in problem.post,
        simple=simple,
        ahead=is_far(problem.N * image * pixel_bytes, machine),
    )


def slab_bytes(tile: Winograd, size: int) -> int:
    """Memory of a slab, its table of pixels, and the rows that a block's transposition reads."""
    m = tile.minimal.m
    pixels = m * max(1, tile.lanes // m)
    return m * pixels * (tile.width * size + 8) + tile.lanes * tile.width * size


@device
def store_tiles(kind, g, s, sums, sums_row, first, count, width, output, bias, residual, slab):
    """``A^T M A`` of ``count`` tiles from number ``first`` on, through the post ops.

    Args:
        sums: Planes of tiles of sums, each of whole vectors.
        sums_row: Bytes from one tile to the next.
        width: Channels of them that exist.
        output, residual: Address of the first of these channels in pixel 0.
        bias: Address of the first of these channels' bias.
    """
    m, slab_row = outputs(kind), sums_row
    # Of planes, neighbouring tiles share a slab: their pixels fill a vector.
    most = 1
    if s.plane_bytes:
        most = max(1, lanes(kind) // m)
    image, rest = first // (g.grid_h * g.grid_w), first % (g.grid_h * g.grid_w)
    tile_h, tile_w = rest // g.grid_w, rest % g.grid_w
    low, high = splat(kind, scalar(kind, -np.inf)), splat(kind, scalar(kind, np.inf))
    if g.low:
        low = zeros(kind)
    if g.high:
        high = splat(kind, scalar(kind, 6))
    i = 0
    while i < count:
        tiles = min(most, min(count - i, g.grid_w - tile_w))
        phase_h, phase_w = tile_h // g.run_h, tile_w // g.run_w
        p = phase_h + (tile_h - phase_h * g.run_h) * m * g.step_h
        q = phase_w + (tile_w - phase_w * g.run_w) * m * g.step_w
        rows = min(m, (g.out_h - p + g.step_h - 1) // g.step_h)
        pixels = min(tiles * m, (g.out_w - q + g.step_w - 1) // g.step_w)
        pixel = image * g.image + p * g.out_w + q
        in_place = g.simple and rows == m and pixels == m and s.plane_bytes == 0
        for j in range(0, width, lanes(kind)):
            left, at = width - j, j * itemsize(kind)
            target, row_bytes, pixel_bytes = slab + at, most * m * slab_row, slab_row
            if in_place and left >= lanes(kind):
                target = output + at + pixel * s.row_bytes
                pixel_bytes = g.step_w * s.row_bytes
                row_bytes = g.step_h * g.out_w * s.row_bytes
                if g.ahead:
                    soon = target + WINDOWS_AHEAD * m * pixel_bytes
                    _expect_outputs(kind, soon, row_bytes, pixel_bytes)
            added = zeros(kind)
            if g.simple and s.has_bias:
                added = load_first(kind, bias + at, left)
            for tile in range(tiles):
                transform_output(
                    kind,
                    sums + (i + tile) * slab_row + at,
                    g.plane_bytes,
                    added,
                    low,
                    high,
                    target + tile * m * pixel_bytes,
                    row_bytes,
                    pixel_bytes,
                )
        if not in_place or width < slab_row // itemsize(kind):
            begin = 0
            if in_place:
                begin = width - width % lanes(kind)
            line = most * m * slab_row
            table = slab + m * line + lanes(kind) * slab_row
            for row in range(rows):
                _store_line(
                    vectors_of(kind), g, s, slab + row * line, slab_row, table, pixels,
                    pixel + row * g.step_h * g.out_w, begin, width, output, bias, residual,
                )  # fmt: skip
        i += tiles
        tile_w += tiles
        if tile_w == g.grid_w:
            tile_w = 0
            tile_h += 1
            if tile_h == g.grid_h:
                tile_h = 0
                image += 1


@device
def _expect_outputs(kind, target, row_bytes, pixel_bytes):
    """Ask for the lines that a window of outputs will be stored to."""
    for i in range(outputs(kind)):
        for j in range(outputs(kind)):
            prefetch_to_write(target + i * row_bytes + j * pixel_bytes)


@device
def _store_line(
    kind, g, s, line, slab_row, table, pixels, pixel, begin, width, output, bias, residual
):
    """Channels ``begin`` to ``width`` of the pixels of a line that exist."""
    size = itemsize(kind)
    if g.simple and s.plane_bytes == 0:
        for j in range(pixels):
            place = output + (pixel + j * g.step_w) * s.row_bytes
            for at in range(begin * size, width * size, vector_bytes(kind)):
                value = load(kind, line + j * slab_row + at)
                store_first(place + at, value, width - at // size)
        return
    for j in range(pixels):
        store_word(table + 8 * j, pixel + j * g.step_w)
    if not g.simple:
        put_rows(kind, s, line, slab_row, pixels, width, table, output, bias, residual)
    if s.plane_bytes:
        put_planes(kind, s, line, slab_row, pixels, width, table, output)
