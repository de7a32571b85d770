"""Taps of a grid: which of them are one run of memory."""

from convforge.kernels.cpu._gather import gathers
from convforge.problem import parse


def _lines(spelling):
    (grid,) = gathers(parse(spelling))
    return grid.lines()


def test_taps_side_by_side_are_one_run():
    assert _lines("fprop:f32:nhwc:n1c4h9w9_k4r3s5_p1x2") == (
        5,
        (((0, -1, -2), 0), ((0, 0, -2), 5), ((0, 1, -2), 10)),
    )


def test_taps_apart_are_taken_one_by_one():
    length, taps = _lines("fprop:f32:nhwc:n1c4h9w9_k4r3s3_p2x2_d1x2")
    assert length == 1
    assert len(taps) == 9


def test_the_taps_of_dgrad_run_the_other_way():
    assert _lines("dgrad:f32:nhwc:n1c4h9w9_k4r3s3_p1x1")[0] == 1
