"""Every registered GPU algorithm, on every shared case that it accepts, on the emulated device.

As tests/kernels/test_all.py does it for the CPU: the same cases, limits and poisoned memory. What
runs is the PTX that devices get.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from convforge import reference
from convforge.contract import Rejected, UnsupportedProblem
from convforge.plan import Plan, Policy, plan
from convforge.problem import ConvProblem, Direction, Order, PoolKind, PoolProblem, PostOp, parse
from convforge.runtime.dtypes import numpy_dtype
from convforge.testing import cases, oracle
from convforge.testing.data import operands, result
from convforge.testing.poison import guarded, lent
from convforge.testing.unseen import UNSEEN, fill_unseen

try:
    from convforge.testing.device import emulated_device, missing
except ImportError as error:
    pytest.skip(f"no GPU leg: {error}", allow_module_level=True)
if missing():
    pytest.skip(f"no GPU leg: {missing()}", allow_module_level=True)

from convforge.kernels.cuda_numba._pool_powers import powers_program
from convforge.registry import algorithms
from convforge.runtime.cuda.compiler import binary_of, ptx_of
from convforge.testing.device import EmulatedDevice

ALGORITHMS = {algorithm.name: algorithm for algorithm in algorithms("cuda")}
MACHINE = EmulatedDevice.machine
EVERYTHING = tuple(map(parse, cases.CONV + cases.CONV_EPILOGUES + cases.CONV_TYPES + cases.POOL))
SMOOTH = {PostOp.SILU, PostOp.GELU, PostOp.GELU_TANH}
ARCHITECTURES = ("sm_80", "sm_89", "sm_90", "sm_100")


@pytest.fixture(scope="module")
def device():
    with emulated_device() as found:
        yield found


def accepted(name, problem):
    return ALGORITHMS[name].supports(problem, MACHINE) is None


THINNED = {"cuda_numba.conv_im2col": 3, "cuda_numba.conv_fft": 3}
"""Algorithms that take every problem, through kernels that few problems tell apart."""


def on(problems, keep=lambda problem: True, directions=(), thinned=MappingProxyType({})):
    """Parametrise a test over the algorithms and what each accepts, in all of ``directions``.

    An algorithm that is ``thinned`` runs on every so many-th problem.
    """
    return pytest.mark.parametrize(
        ("name", "problem"),
        [
            pytest.param(name, problem, id=f"{name}-{problem}")
            for i, problem in enumerate(problems)
            if keep(problem)
            for name in ALGORITHMS
            if i % thinned.get(name, 1) == 0
            and accepted(name, problem)
            and all(accepted(name, replace(problem, direction=d)) for d in directions)
        ],
    )


def policy_for(name):
    return Policy(algorithm=name, accuracy="fast", deterministic=False)


def run(planned: Plan, data, *, unaligned=False):
    """Call a plan in poisoned memory of the device; the result as a NumPy array."""
    device, problem = planned.device, planned.problem
    shape, operand = result(problem)
    dtype = numpy_dtype(operand.dtype)
    with ExitStack() as stack:

        def lend(array):
            memory = stack.enter_context(lent(array, offset=array.itemsize * unaligned))
            memory.flags.writeable = False
            return device.adopt(memory)

        arrays = [lend(array) for array in data.arrays]
        epilogue = {key: lend(array) for key, array in data.epilogue.items()}
        out = stack.enter_context(guarded(shape, dtype, offset=dtype.itemsize * unaligned))
        if data.before is not None:
            out[...] = data.before
        returned = planned(*arrays, **epilogue, out=device.adopt(out))
        if isinstance(returned, tuple):
            places = returned[1].get()
            assert_array_equal(places, reference.compute(problem, *data.arrays)[1])
    return out


def check(planned: Plan, data, y, *, exact=False, positive=False):
    if exact and planned.tolerance.exact:
        oracle.assert_exact(planned.problem, y, data)
    else:
        oracle.assert_within(planned.problem, y, data, planned.tolerance, positive=positive)


def sums_only(problem):
    """Whether integers give integers: no smooth activation, no division."""
    if isinstance(problem, PoolProblem):
        return problem.kind is PoolKind.MAX
    return not SMOOTH & set(problem.post)


@on(EVERYTHING, sums_only, thinned=THINNED)
def test_small_integers(device, name, problem):
    planned = plan(problem, policy_for(name), device)
    data = operands(problem, "integers")
    check(planned, data, run(planned, data), exact=True)


@on(EVERYTHING[::-1], lambda problem: problem.x.dtype.eps, thinned=THINNED)
def test_error_in_units_from_unaligned_arrays(device, name, problem):
    planned = plan(problem, policy_for(name), device)
    data = operands(problem)
    check(planned, data, run(planned, data, unaligned=True))


DEPTHWISE = [
    parse(cases.spell(direction, "f32", order, geometry))
    for direction, geometry in (
        *((direction, "n1c3h15w9_k6r5s3_st4x1_p3:1x0:2_d1x2_g3") for direction in Direction),
        ("dgrad", "n2c3h13w11_k3r4s2_st3x2_p2x1_g3"),
        ("wgrad", "n3c40h17w13_k40r3s3_p1x1_g40"),
        ("wgrad", "n6c2h45w32_k2r3s3_p1x1_g2"),
    )
    for order in Order
]
"""Strides that only some outputs meet; filters whose pixels several blocks share."""


@pytest.mark.parametrize("problem", DEPTHWISE, ids=str)
def test_depthwise_strides_and_shared_pixels(device, problem):
    planned = plan(problem, policy_for("cuda_numba.conv_depthwise"), device)
    data = operands(problem, "integers")
    check(planned, data, run(planned, data), exact=True)


CHUNKED = [
    parse(f"{direction}:{types}")
    for direction in Direction
    for types in (
        "f32:nhwc:n2c5h17w16_k9r3s3_p1x1",
        "f32:n2c6h16w17_k4r3s2_st2x1_p1x1_d1x2_g2",
        "f32:nhwc-kcrs-nchw:n3c8h15w14_k9r1s1",
    )
] + [parse("dgrad:f32:n1c5h14w13_k6r3s2_p1x1_mcircularxreflect")]


@on(CHUNKED)
def test_workspaces_stay_within_their_limit(device, name, problem):
    whole = plan(problem, policy_for(name), device)
    data = operands(problem, "integers")
    check(whole, data, run(whole, data), exact=True)
    if not whole.workspace_bytes:
        return
    least = whole.workspace_bytes
    for part in (2, 4):
        policy = replace(policy_for(name), workspace_limit=whole.workspace_bytes // part)
        try:
            planned = plan(problem, policy, device)
        except UnsupportedProblem as error:
            assert "workspace_limit" in str(error)
            continue
        least = planned.workspace_bytes
        assert least <= policy.workspace_limit
        check(planned, data, run(planned, data), exact=True)
    none = replace(policy_for(name), workspace_limit=63)
    with pytest.raises(UnsupportedProblem, match="needs more than workspace_limit=63"):
        plan(problem, none, device)
    if name in ("cuda_numba.conv_im2col", "cuda_numba.conv_fft"):
        assert least < whole.workspace_bytes or whole.workspace_bytes < 1 << 14


LONG_FILTERS = [
    parse(f"{direction}:{geometry}")
    for direction in Direction
    for geometry in (
        "f32:n2c2h37w70_k3r12s15_p6x7",
        "f32:nhwc:n1c3w900_k3s300_st2_p150_g3",
        "f32:n1c2h40w41_k2r9s11_st2x1_p8x15_d3x3",
        "f64:n1c1h33w60_k1r17s19_p8x9",
    )
]
"""Filters that need large tiles, several of each image."""


@pytest.mark.parametrize("problem", LONG_FILTERS, ids=str)
def test_large_tiles_and_prepared_filters(device, problem):
    planned = plan(problem, policy_for("cuda_numba.conv_fft"), device)
    data = operands(problem)
    y = run(planned, data)
    check(planned, data, y)
    if problem.direction is Direction.WGRAD:
        return
    first, w = map(device.adopt, data.arrays)
    prepared = planned(first, planned.prepare(w)).get()
    assert prepared.tobytes() == y.tobytes()
    alone = replace(problem, N=1)
    one = plan(alone, policy_for("cuda_numba.conv_fft"), device)
    got = one(device.asarray(data.arrays[0][:1]), w).get()
    assert got.tobytes() == y[:1].tobytes()


@pytest.mark.parametrize("problem", list(map(parse, UNSEEN)), ids=str)
def test_what_no_result_of_a_transform_depends_on_changes_no_bit(device, problem):
    planned = plan(problem, policy_for("cuda_numba.conv_fft"), device)
    data = operands(problem)
    results = []
    for value in (np.nan, 1e30, 0.0):
        assert fill_unseen(problem, data, value)
        results.append(run(planned, data))
    assert results[0].tobytes() == results[1].tobytes() == results[2].tobytes()
    check(planned, data, results[-1])


def test_gradients_by_taps_that_meet_nothing_are_zero(device):
    problem = parse("wgrad:f32:n2c3h5w9_k4r17s9_p8x4")
    dw = run(plan(problem, policy_for("cuda_numba.conv_fft"), device), operands(problem))
    assert not dw[:, :, :4].any()
    assert not dw[:, :, 13:].any()
    assert dw[:, :, 4:13].all()


LONG_SUMS = [
    cases.spell(direction, dtype, "last", geometry)
    for direction in Direction
    for dtype in ("f32", "f64")
    for geometry in ("n2c96h9w10_k16r3s3_p1x1", "n4c8h15w16_k8r1s1")
]


@on(map(parse, LONG_SUMS))
def test_error_where_nothing_cancels(device, name, problem):
    planned = plan(problem, policy_for(name), device)
    data = operands(problem, "positive")
    check(planned, data, run(planned, data), positive=True)


SEVERAL_BLOCKS = [
    parse(cases.spell(direction, "f32", order, geometry))
    for direction in Direction
    for order in Order
    for geometry in (
        "n2c5h19w17_k34r3s3_p1x1",
        "n1c6h19w36_k4r3s3_st2x2_g2",
        "n3c9h16w16_k9r3s3_g9",
    )
] + [
    parse(cases.spell(direction, f"{kind}:f32", order, "n2c9h15w14_r3s3_st2x2_p1x1"))
    for direction in ("fprop", "dgrad")
    for kind in ("max", "avg")
    for order in Order
]


@on(SEVERAL_BLOCKS)
def test_any_order_of_threads_gives_the_same_bits(device, name, problem):
    planned = plan(problem, policy_for(name), device)
    data = operands(problem)
    forward = run(planned, data)
    check(planned, data, forward)
    try:
        for device.order in ("backward", 7):
            assert run(planned, data).tobytes() == forward.tobytes()
    finally:
        device.order = "forward"


@on(SEVERAL_BLOCKS)
def test_64_bit_indices(device, name, problem):
    algorithm = ALGORITHMS[name]
    config = replace(next(iter(algorithm.configs(problem, MACHINE, 1 << 30))), index="i64")
    planned = Plan(problem, policy_for(name), algorithm, config, device)
    data = operands(problem, "integers")
    check(planned, data, run(planned, data), exact=sums_only(problem))


HUGE = [
    "n1c4096h1024w1024_k4r1s1",
    "n1c3h4w4_k3r1073741824s1_p536870912x0",
    "n2000000c64h7w7_k8r3s3_p1x1",
    "n1c3h6w6_k4r1s1_d2147483648x1",
    "n1c0h65536w65536_k0r1s1",
]
HUGE_POOLS = ["fprop:avg:f32:n1c3h6w6_r2s2+divisor2147483648"]


@on(
    [parse(cases.spell(d, "f32", o, text)) for d in Direction for o in Order for text in HUGE]
    + [*map(parse, HUGE_POOLS)]
)
def test_large_problems_have_64_bit_indices(name, problem):
    (config,) = ALGORITHMS[name].configs(problem, MACHINE, 1 << 60)
    assert config.index == "i64"
    # What is handed over fits its type, else this raises.
    ALGORITHMS[name].program(problem, config, MACHINE)


LINEAR = [
    parse(cases.spell("fprop", dtype, order, geometry))
    for dtype in ("f32", "f64")
    for order in Order
    for geometry in cases.EDGES[:4] + cases.STRIDES[:4] + cases.GROUPS[:3] + cases.RANKS[:4]
]


@on(LINEAR, directions=Direction)
def test_the_three_directions_are_adjoint(device, name, problem):
    dgrad, wgrad = (replace(problem, direction=d) for d in (Direction.DGRAD, Direction.WGRAD))
    x, w = operands(problem, "integers").arrays
    dy, _ = operands(dgrad, "integers", seed=1).arrays
    y, dx, dw = (
        plan(each, policy_for(name), device)(*map(device.adopt, arrays)).get().astype(np.float64)
        for each, arrays in ((problem, (x, w)), (dgrad, (dy, w)), (wgrad, (x, dy)))
    )
    inner = [(y * dy).sum(), (x * dx).sum(), (w * dw).sum()]
    if ALGORITHMS[name].tolerance.exact:
        assert inner[0] == inner[1] == inner[2]
    else:
        np.testing.assert_allclose(inner, inner[0], rtol=1e-3, atol=1e-2)


PLAIN = [
    parse(cases.spell(direction, "f32", order, geometry))
    for direction in Direction
    for order in Order
    for geometry in ("n2c5h9w17_k34r3s3_p1x1", "n1c6h9w16_k4r3s3_st2x2_g2")
]


@on(PLAIN)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_one_bad_pixel_reaches_what_its_window_covers(device, name, problem, value):
    planned = plan(problem, policy_for(name), device)
    data = operands(problem)
    first = data.arrays[0]
    first[(0, *(n // 2 for n in first.shape[1:]))] = value
    y = run(planned, data)
    spread = ~np.isfinite(oracle.wanted(problem, data))
    assert spread.any()
    assert not np.isfinite(y[spread]).any()
    if not planned.tolerance.planewise:
        check(planned, data, y)


@on(PLAIN, lambda problem: problem.direction is not Direction.WGRAD)
def test_one_bad_weight_is_not_lost(device, name, problem):
    unpadded = replace(
        problem, axes=tuple(replace(axis, pad_lo=0, pad_hi=0) for axis in problem.axes)
    )
    planned = plan(unpadded, policy_for(name), device)
    data = operands(unpadded)
    w = data.arrays[1]
    w[(1, *(n // 2 for n in w.shape[1:]))] = np.nan
    spread = np.isnan(oracle.wanted(unpadded, data))
    assert spread.any()
    assert np.isnan(run(planned, data)[spread]).all()


@on(
    map(parse, cases.CONV_EPILOGUES),
    lambda problem: PostOp.BIAS in problem.post and problem.x.dtype == "f32",
)
def test_epilogues_hand_nan_on(device, name, problem):
    planned = plan(problem, policy_for(name), device)
    data = operands(problem)
    data.epilogue["bias"][0] = np.nan
    y = run(planned, data)
    want = oracle.wanted(problem, data)
    assert_array_equal(np.isnan(y), np.isnan(want))
    assert np.isnan(want).any()


@pytest.mark.parametrize("kind", ["max", "avg"])
def test_four_neighbouring_channels_are_one_access(device, kind):
    """Of 16 bytes: the emulator refuses one that is not on a multiple of them."""
    planned = plan(
        f"fprop:{kind}:f32:nhwc:n1c8h5w6_r3s2_p1x1", policy_for("cuda_numba.pool_window"), device
    )
    (step,) = planned.program.steps
    assert ".v4.f32" in ptx_of(step.kernel).text
    data = operands(planned.problem, "integers")
    seen = set()
    for offset in range(4):
        with lent(data.arrays[0], offset=4 * offset) as x:
            got = planned(device.adopt(x)).get()
            seen.add(x.ctypes.data % 16)
        check(planned, data, got, exact=kind == "max")
    assert seen == {0, 4, 8, 12}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_refusals_have_words(name):
    refused = [ALGORITHMS[name].supports(problem, MACHINE) for problem in EVERYTHING]
    refused = [reason for reason in refused if reason is not None]
    assert refused
    assert all(isinstance(reason, Rejected) and len(str(reason)) >= 8 for reason in refused)


def test_an_axis_has_half_of_a_tile():
    refused = ALGORITHMS["cuda_numba.conv_fft"].supports(
        parse("fprop:f32:n1c1w9000_k1s3000"), MACHINE
    )
    assert "4096 places, at most 2048 of them along an axis" in str(refused)


COLUMNS = [
    parse(f"{direction}:{dtype}:n1c4h24w9_k4r{rows}s3_st{stride}x1_g4")
    for direction in Direction
    for dtype, rows, strides in (("f32", 7, (1,)), ("f32", 11, (2, 4)), ("f64", 11, (1, 4)))
    for stride in strides
]
"""Filters that a kernel is unrolled for."""


def power_steps():
    """Launches of power means, which are no problem's: common powers, and any other."""
    for dtype, power in (("f32", 2), ("f32", 1.5), ("f64", 1.5), ("bf16", 2)):
        for direction in ("fprop", "dgrad"):
            problem = parse(f"{direction}:avg:{dtype}:n1c5h9w8_r3s3_st2x2+ceil")
            yield from powers_program(problem, power, keeps_sums=True).steps


def kernels():
    """Every kernel in every configuration that a case has, and the widest with 64-bit indices."""
    found = {}
    for problem in (*EVERYTHING, *COLUMNS, *LONG_FILTERS):
        for name, algorithm in ALGORITHMS.items():
            if accepted(name, problem):
                for config in algorithm.configs(problem, MACHINE, 1 << 30):
                    widest = problem not in COLUMNS and set(config.pointers) <= {"f64", "i64"}
                    for each in (config, *([replace(config, index="i64")] if widest else [])):
                        weights = algorithm.weight_format(problem, each)
                        packing = weights.pack.steps if weights else ()
                        for step in (*algorithm.program(problem, each, MACHINE).steps, *packing):
                            found[f"{step.kernel.name}-{step.kernel.config}"] = step.kernel
    for step in power_steps():
        found[f"{step.kernel.name}-{step.kernel.config}"] = step.kernel
    return [pytest.param(ref, id=text) for text, ref in found.items()]


@pytest.mark.parametrize("ref", kernels())
def test_kernels_fit_every_device(ref):
    most = ref.function.registers[ref.config.acc] if ref.config.index == "i32" else 255
    binaries = [binary_of(ref, arch) for arch in ARCHITECTURES]
    assert all(binary.code[:4] == b"\x7fELF" for binary in binaries)
    assert [(b.spill_bytes, b.stack_bytes) for b in binaries] == [(0, 0)] * len(binaries)
    assert all(0 < binary.registers <= most for binary in binaries)
    assert max(binary.shared_bytes for binary in binaries) <= 48 << 10


def test_there_is_something_to_check():
    assert len(kernels()) >= 10
    assert {type(p) for p in EVERYTHING} == {ConvProblem, PoolProblem}
