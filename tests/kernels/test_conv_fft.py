"""What the shared cases do not reach: many tiles, chunks, lanes, every length, large filters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from convforge.kernels.cpu._fft_line import radices
from convforge.kernels.cpu._fft_shape import EVEN, LENGTHS, LONGEST
from convforge.plan import Plan, Policy, plan
from convforge.problem import DType, parse
from convforge.registry import find
from convforge.runtime import machine, memory
from convforge.testing import oracle
from convforge.testing.data import operands
from convforge.testing.unseen import UNSEEN, fill_unseen

ALGORITHM = find("conv_fft")[0]
MACHINE = machine.cpu()


def policy(**limits) -> Policy:
    return Policy(algorithm="conv_fft", **limits)


def check(planned: Plan) -> np.ndarray:
    data = operands(planned.problem)
    out = None if data.before is None else data.before.copy()
    with memory.poison():
        y = planned(*data.arrays, **data.epilogue, out=out)
    oracle.assert_within(planned.problem, y, data, planned.tolerance)
    return y


@pytest.mark.parametrize("length", LENGTHS)
def test_passes_make_up_every_length(length):
    assert np.prod(radices(length), dtype=int) == length
    assert len(radices(length)) <= 14


def test_a_length_with_another_factor_is_refused():
    with pytest.raises(ValueError, match="7 is left"):
        radices(28)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("length", [n for n in EVEN if n <= 4096])
def test_every_length_is_transformed(dtype, length):
    problem = parse(f"fprop:{dtype}:n1c1w{length}_k1s2_p1:0")
    config = next(iter(ALGORITHM.configs(problem, MACHINE, 1 << 30)))
    check(Plan(problem, policy(), ALGORITHM, replace(config, shape=(1, 1, length))))


MANY_TILES = [
    f"{direction}:f32:{order}{geometry}"
    for direction in ("fprop", "dgrad", "wgrad")
    for order in ("", "nhwc-krsc:")
    for geometry in (
        "n2c5h50w61_k18r11s13_p5x6",
        "n1c18h40w75_k3r9s5_st1x2_p0x4_d2x3",
        "n2c17h45w33_k17r7s9_p3x4_g17",
        "n1c2h20w500_k2r5s11_p2x5_g2",
        "n1c3h12w13_k4r25s27_p12x13",
    )
] + [
    "fprop:f64:n1c1w5000_k1s300_p150+bias+relu",
    "fprop:f32:n2c3w5000_k3s70_st3_p35_g3+bias+gelu",
    "dgrad:f32:n1c2d9h11w200_k2t3r5s7_p1x2x3_g2+bias",
    "fprop:f32:n1c20h30w31_k20r5s5_p2x2_g20+bias+residual+relu",
    "fprop:f32:n1c20h30w31_k20r5s5_p2x2+residual",
    "wgrad:f32:n1c20h30w31_k7r5s5_p2x2+accumulate",
]


@pytest.mark.parametrize("text", MANY_TILES)
def test_small_tiles_large_filters_and_every_configuration(text):
    problem = parse(text)
    configs = list(ALGORITHM.configs(problem, MACHINE, 1 << 30))
    assert configs
    for config in configs[:3]:
        check(Plan(problem, policy(), ALGORITHM, config))


@pytest.mark.parametrize(
    "text", ["fprop:f32:n4c24h60w61_k24r9s9_p4x4", "dgrad:f64:n6c16w2500_k16s40"]
)
def test_chunks_obey_the_workspace_limit_and_keep_the_bits(text):
    free = plan(text, policy())
    most = free.workspace_bytes
    config = free.config
    limits = [n for n in (most // 2, most // 4) if n]
    for limit in limits:
        options = list(ALGORITHM.configs(free.problem, MACHINE, limit))
        same = [option for option in options if option.shape == config.shape]
        assert same, "a smaller chunk of the same tiles fits"
        assert same[0].chunk < config.chunk
        planned = Plan(free.problem, policy(workspace_limit=limit), ALGORITHM, same[0])
        assert planned.workspace_bytes <= limit
        assert check(planned).tobytes() == check(free).tobytes()
    assert not list(ALGORITHM.configs(free.problem, MACHINE, 0))


@pytest.mark.parametrize(
    ("text", "lanes"),
    [
        ("fprop:f32:n1c64h20w20_k64r9s9_p4x4_g64", "channels"),
        ("fprop:f32:n1c1w100000_k1s200", "tiles"),
        ("fprop:f32:n1c64h20w20_k64r9s9_p4x4", "sums"),
        ("wgrad:f32:n1c64h20w20_k64r9s9_p4x4_g64", "sums"),
    ],
)
def test_what_lanes_are(text, lanes):
    assert plan(text, policy()).config.lanes == lanes


def test_prepared_weights_serve_another_size_and_batch():
    text = "fprop:f32:n{n}c4h{h}w200_k6r9s9"
    first, second = (plan(text.format(n=n, h=h), policy()) for n, h in ((1, 200), (3, 200)))
    assert first.weight_format.id == second.weight_format.id
    data = operands(second.problem)
    x, w = data.arrays
    assert second(x, first.prepare(w)).tobytes() == second(x, w).tobytes()


def test_bits_do_not_depend_on_threads_or_on_the_batch():
    problem = parse("fprop:f32:n3c20h40w41_k33r9s9_p4x4")
    x, w = operands(problem).arrays
    one, two = (plan(problem, policy(threads=n))(x, w) for n in (1, 2))
    assert one.tobytes() == two.tobytes()
    alone = plan(replace(problem, N=1), policy())(x[1:2], w)
    assert alone.tobytes() == one[1:2].tobytes()


def test_a_filter_beyond_the_longest_tile_is_refused():
    size = 2 * LONGEST
    problem = parse(f"fprop:f32:n1c1w{size}_k1s{LONGEST + 1}")
    assert str(LONGEST) in str(ALGORITHM.supports(problem, MACHINE))


def test_large_filters_are_its_own_and_strict_excludes_it():
    text = "fprop:f32:n1c64h56w56_k64r31s31_p15x15"
    assert plan(text).algorithm == "cpu.conv_fft"
    assert plan(text, Policy(accuracy="strict")).algorithm == "cpu.conv_direct"
    assert plan("fprop:f32:n1c64h56w56_k64r1s1").algorithm != "cpu.conv_fft"


def test_an_error_stays_in_proportion_to_the_plane():
    problem = parse("fprop:f32:n1c2h64w64_k2r9s9_p4x4")
    data = operands(problem)
    data.arrays[0][0, 0, 32, 32] = 1e6
    planned = plan(problem, policy())
    y = planned(*data.arrays)
    assert oracle.worst(problem, y, data, planewise=True).units <= planned.tolerance.growth
    assert problem.x.dtype is DType.F32


@pytest.mark.parametrize("text", UNSEEN)
def test_what_no_result_depends_on_changes_no_bit(text):
    problem = parse(text)
    data = operands(problem)
    for config in list(ALGORITHM.configs(problem, MACHINE, 1 << 30))[:3]:
        planned = Plan(problem, policy(), ALGORITHM, config)
        results = []
        for value in (np.nan, 1e30, 0.0):
            assert fill_unseen(problem, data, value)
            out = None if data.before is None else data.before.copy()
            results.append(planned(*data.arrays, out=out))
        assert results[0].tobytes() == results[1].tobytes() == results[2].tobytes()
        oracle.assert_within(problem, results[-1], data, planned.tolerance)


@pytest.mark.parametrize("accumulate", [False, True])
def test_gradients_by_taps_that_meet_nothing_are_zero(accumulate):
    problem = parse("wgrad:f32:n2c3h5w9_k4r17s9_p8x4" + "+accumulate" * accumulate)
    data = operands(problem)
    before = 0 if data.before is None else data.before.copy()
    config = next(iter(ALGORITHM.configs(problem, MACHINE, 1 << 30)))
    dw = check(Plan(problem, policy(), ALGORITHM, config)) - before
    assert not dw[:, :, :4].any()
    assert not dw[:, :, 13:].any()
    assert dw[:, :, 4:13].all()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fprop:f32:nwc-kcs-ncw:n5c2w4_k66s3_p2_d3_g2", "one tap"),
        ("wgrad:f32:nhwc:n1c8h1w17_k3r5s1_st5x1_p7:0x0", "one tap"),
        ("wgrad:f32:n1c2h2w20_k2r9s5_p8x2", None),
        ("wgrad:f32:n1c2h1w12_k2r9s5_p4x2", "wgrad sums 12 pixels"),
        ("fprop:f32:n1c2h40w40_k2r1s9_st2x1", "pixels that no result depends on"),
        ("wgrad:f32:n2c2h40w40_k2r5s9_st2x1_d2x1", "pixels that no result depends on"),
        ("fprop:f32:n1c2w1_k2s9_st10_p40:60_d6", "taps that no result depends on"),
        ("dgrad:f32:n1c2h40w40_k2r1s9_st2x1", None),
        ("dgrad:f32:n1c2w1_k2s3_p9_d3", "outputs that no result depends on"),
    ],
)
def test_too_little_that_meets_and_gaps_are_refused(text, words):
    refusal = ALGORITHM.supports(parse(text), MACHINE)
    assert (refusal is None) if words is None else words in str(refusal)
