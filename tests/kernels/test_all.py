"""Every registered CPU algorithm, on every shared case that it accepts.

An algorithm appears here by being registered. Inputs, outputs and workspace lie in memory that is
NaN all around; limits are the algorithm's own promises and the same everywhere.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings, strategies
from numpy.testing import assert_array_equal

from convforge import reference
from convforge.contract import Rejected
from convforge.plan import Plan, Policy, plan
from convforge.problem import (
    ConvProblem,
    Direction,
    DType,
    Order,
    PadMode,
    PoolKind,
    PoolProblem,
    PostOp,
    parse,
)
from convforge.registry import algorithms
from convforge.runtime import machine, memory
from convforge.runtime.dtypes import numpy_dtype
from convforge.testing import cases, oracle
from convforge.testing.data import operands, result
from convforge.testing.poison import guarded, lent
from convforge.testing.strategies import conv_problems, pool_problems

ALGORITHMS = {algorithm.name: algorithm for algorithm in algorithms("cpu")}
REFERENCE = "cpu.reference"
MACHINE = machine.cpu()
EVERYTHING = tuple(map(parse, cases.CONV + cases.CONV_EPILOGUES + cases.CONV_TYPES + cases.POOL))
SMOOTH = {PostOp.SILU, PostOp.GELU, PostOp.GELU_TANH}


@cache
def refusal(name: str, problem) -> Rejected | None:
    return ALGORITHMS[name].supports(problem, MACHINE)


def on(problems, keep=lambda problem: True, promise=lambda traits: True, directions=()):
    """Parametrise a test over the algorithms that promise something, and what each accepts.

    With ``directions``, an algorithm has to accept a problem in all of these as well. The
    reference, which is its own oracle here, gets what nobody else accepts.
    """
    cases = []
    for problem in filter(keep, problems):
        accepting = [
            name
            for name, algorithm in ALGORITHMS.items()
            if promise(algorithm.traits)
            and refusal(name, problem) is None
            and all(refusal(name, replace(problem, direction=d)) is None for d in directions)
        ]
        if len(accepting) > 1 and REFERENCE in accepting:
            accepting.remove(REFERENCE)
        cases += [pytest.param(name, problem, id=f"{name}-{problem}") for name in accepting]
    return pytest.mark.parametrize(("name", "problem"), cases)


def policy_for(name: str, **limits) -> Policy:
    return Policy(algorithm=name, accuracy="fast", deterministic=False, **limits)


def run(planned: Plan, data, *, unaligned: bool = False, prepare: bool = False):
    """Call a plan in poisoned memory, its arrays on a cache line or one element off."""
    shape, operand = result(planned.problem)
    dtype = numpy_dtype(operand.dtype)
    with ExitStack() as stack:

        def lend(array):
            return stack.enter_context(lent(array, offset=array.itemsize * unaligned))

        arrays = [lend(array) for array in data.arrays]
        epilogue = {key: lend(array) for key, array in data.epilogue.items()}
        out = stack.enter_context(guarded(shape, dtype, offset=dtype.itemsize * unaligned))
        if data.before is not None:
            out[...] = data.before
        with memory.poison():
            if prepare:
                arrays[1] = planned.prepare(arrays[1])
            returned = planned(*arrays, **epilogue, out=out)
    if isinstance(returned, tuple):
        returned, indices = returned
        assert_array_equal(indices, reference.compute(planned.problem, *data.arrays)[1])
    assert returned is out
    return out


def check(planned: Plan, data, y, *, exact: bool = False, positive: bool = False):
    if exact and planned.tolerance.exact:
        oracle.assert_exact(planned.problem, y, data)
    else:
        oracle.assert_within(planned.problem, y, data, planned.tolerance, positive=positive)


def sums_only(problem) -> bool:
    """Whether integers give integers: no smooth activation, no division."""
    if isinstance(problem, PoolProblem):
        return problem.kind is PoolKind.MAX
    return not SMOOTH & set(problem.post)


@on(EVERYTHING, sums_only)
def test_small_integers(name, problem):
    planned = plan(problem, policy_for(name))
    data = operands(problem, "integers")
    check(planned, data, run(planned, data), exact=True)


@on(EVERYTHING, lambda problem: problem.x.dtype.eps)
def test_error_in_units_from_unaligned_arrays(name, problem):
    planned = plan(problem, policy_for(name, threads=1))  # above: with all of them
    data = operands(problem)
    check(planned, data, run(planned, data, unaligned=True))


LONG_SUMS = [
    cases.spell(direction, dtype, "last", geometry)
    for direction in Direction
    for dtype in ("f32", "f64")
    for geometry in ("n2c96h9w10_k72r3s3_p1x1", "n4c8h15w16_k8r1s1")
]


@on(map(parse, LONG_SUMS))
def test_error_where_nothing_cancels(name, problem):
    planned = plan(problem, policy_for(name))
    data = operands(problem, "positive")
    check(planned, data, run(planned, data), positive=True)


def tiles(name: str) -> list[ConvProblem]:
    """Problems around the tile that an algorithm says it uses, in rows and vectors."""
    found = {}
    for dtype, channels in (("f32", 64), ("f64", 32), ("f32", 16), ("bf16", 64), ("bf16", 16)):
        problem = parse(f"fprop:{dtype}:nhwc-krsc:n4c16h28w28_k{channels}r3s3_p1x1")
        if refusal(name, problem) is None:
            config = next(iter(ALGORITHMS[name].configs(problem, MACHINE, 1 << 30)))
            if hasattr(config, "rows") and hasattr(config, "columns"):
                width = config.columns * MACHINE.vector_bytes // problem.acc.itemsize
                found |= dict.fromkeys(
                    cases.around_tile(pixels=config.rows, channels=width, dtype=dtype)
                )
    return [parse(text) for text in found]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        pytest.param(name, problem, id=f"{name}-{problem}")
        for name in ALGORITHMS
        for problem in tiles(name)
        if refusal(name, problem) is None
    ],
)
def test_around_the_tile(name, problem):
    planned = plan(problem, policy_for(name))
    data = operands(problem, "integers")
    check(planned, data, run(planned, data), exact=True)


def types_of(name: str) -> list[DType]:
    """Types of the images of those problems that an algorithm accepts."""
    accepted = (problem for problem in EVERYTHING if refusal(name, problem) is None)
    return sorted({problem.x.dtype for problem in accepted if isinstance(problem, ConvProblem)})


@pytest.mark.parametrize("name", ALGORITHMS)
@given(data=strategies.data())
@settings(max_examples=60)
def test_drawn_problems(name, data):
    convolutions = conv_problems(modes=tuple(PadMode), dtypes=types_of(name) or (DType.F32,))
    problem = data.draw(convolutions | pool_problems(), label="problem")
    refused = refusal(name, problem)
    if refused is not None:
        assert str(refused)
        return
    planned = plan(problem, policy_for(name))
    exact = sums_only(problem)
    data = operands(problem, "integers" if exact else "normal")
    check(planned, data, run(planned, data), exact=exact)


LINEAR = [
    parse(cases.spell("fprop", dtype, order, geometry))
    for dtype in ("f32", "f64")
    for order in Order
    for geometry in cases.EDGES + cases.STRIDES + cases.GROUPS + cases.RANKS
]


@on(LINEAR, directions=Direction)
def test_the_three_directions_are_adjoint(name, problem):
    dgrad, wgrad = (replace(problem, direction=d) for d in (Direction.DGRAD, Direction.WGRAD))
    x, w = operands(problem, "integers").arrays
    dy, _ = operands(dgrad, "integers", seed=1).arrays
    y, dx, dw = (
        plan(each, policy_for(name))(*arrays).astype(np.float64)
        for each, arrays in ((problem, (x, w)), (dgrad, (dy, w)), (wgrad, (x, dy)))
    )
    inner = [(y * dy).sum(), (x * dx).sum(), (w * dw).sum()]
    if ALGORITHMS[name].tolerance.exact:
        assert inner[0] == inner[1] == inner[2]
    else:
        np.testing.assert_allclose(inner, inner[0], rtol=1e-3, atol=1e-2)


SHARED_WORK = [
    cases.spell(direction, dtype, order, geometry)
    for direction in Direction
    for dtype in ("f32", "f64")
    for order in Order
    for geometry in (
        "n4c16h20w21_k40r3s3_p1x1",
        "n2c24h15w17_k24r3s3_st2x2_p1x1_g3",
        "n1c33h24w24_k65r1s1",
    )
] + [
    cases.spell(direction, f"{kind}:f32", order, "n4c40h30w31_r3s3_st2x2_p1x1")
    for direction in ("fprop", "dgrad")
    for kind in ("max", "avg")
    for order in Order
]


@on(map(parse, SHARED_WORK), promise=lambda traits: traits.thread_invariant)
def test_bits_do_not_depend_on_threads(name, problem):
    data = operands(problem)
    one, two = (run(plan(problem, policy_for(name, threads=n)), data) for n in (1, 2))
    assert one.tobytes() == two.tobytes()


@on(
    map(parse, SHARED_WORK),
    lambda problem: problem.direction is not Direction.WGRAD,
    promise=lambda traits: traits.batch_invariant,
)
def test_bits_do_not_depend_on_the_batch(name, problem):
    data = operands(problem)
    whole = run(plan(problem, policy_for(name)), data)
    alone = replace(problem, N=1)
    if refusal(name, alone):
        pytest.skip(f"{name} does not run {alone}")
    first, *others = data.arrays
    if isinstance(problem, PoolProblem):
        others = [array[-1:] for array in others]
    single = replace(data, arrays=(first[-1:], *others))
    assert run(plan(alone, policy_for(name)), single).tobytes() == whole[-1:].tobytes()


@on(map(parse, SHARED_WORK), promise=lambda traits: traits.deterministic)
def test_bits_repeat(name, problem):
    data = operands(problem)
    planned = plan(problem, policy_for(name))
    assert run(planned, data).tobytes() == run(planned, data).tobytes()


READS_WEIGHTS = [
    *map(parse, (text for text in SHARED_WORK if "_k" in text and "wgrad" not in text)),
    parse("fprop:f32:nhwc:n1c4h5w6_k5r3s3_p1x1+bias+relu"),
]


@on(READS_WEIGHTS)
def test_prepared_weights_give_the_same_bits(name, problem):
    planned = plan(problem, policy_for(name))
    data = operands(problem)
    assert run(planned, data, prepare=True).tobytes() == run(planned, data).tobytes()


PLAIN = [
    cases.spell(direction, "f32", order, geometry)
    for direction in Direction
    for order in Order
    for geometry in ("n2c5h9w17_k34r3s3_p1x1", "n1c6h9w16_k4r3s3_st2x2_g2")
]


@on(map(parse, PLAIN))
def test_every_configuration_is_right(name, problem):
    algorithm = ALGORITHMS[name]
    data = operands(problem, "integers")
    for config in islice(algorithm.configs(problem, MACHINE, 1 << 30), 8):
        planned = Plan(problem, policy_for(name), algorithm, config)
        check(planned, data, run(planned, data), exact=True)


@on(map(parse, PLAIN))
def test_configurations_obey_the_workspace_limit(name, problem):
    algorithm = ALGORITHMS[name]
    for limit in (0, 1 << 12, 1 << 16, 1 << 30):
        for config in islice(algorithm.configs(problem, MACHINE, limit), 8):
            program = algorithm.program(problem, config, MACHINE)
            assert program.workspace_bytes(MACHINE.threads) <= limit


@on(map(parse, PLAIN))
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_bad_pixel_reaches_what_its_window_covers(name, problem, value):
    planned = plan(problem, policy_for(name))
    data = operands(problem)
    first = data.arrays[0]
    first[(0, *(n // 2 for n in first.shape[1:]))] = value
    y = run(planned, data)
    want = oracle.wanted(problem, data)
    spread = ~np.isfinite(want)
    assert spread.any()
    assert not np.isfinite(y[spread]).any()
    if not planned.tolerance.planewise:
        check(planned, data, y)


@on(map(parse, PLAIN), lambda problem: problem.direction is not Direction.WGRAD)
def test_one_bad_weight_is_not_lost(name, problem):
    unpadded = replace(
        problem, axes=tuple(replace(axis, pad_lo=0, pad_hi=0) for axis in problem.axes)
    )
    planned = plan(unpadded, policy_for(name))
    data = operands(unpadded)
    w = data.arrays[1]
    w[(1, *(n // 2 for n in w.shape[1:]))] = np.nan
    spread = np.isnan(oracle.wanted(unpadded, data))
    assert spread.any()
    assert np.isnan(run(planned, data)[spread]).all()


@on(map(parse, PLAIN))
def test_zero_weights_do_not_hide_a_nan(name, problem):
    planned = plan(problem, policy_for(name))
    data = operands(problem)
    first, second = data.arrays
    second[...] = 0
    first[(0, *(n // 2 for n in first.shape[1:]))] = np.nan
    spread = np.isnan(oracle.wanted(problem, data))
    assert spread.any()
    assert np.isnan(run(planned, data)[spread]).all()


@on(
    map(parse, cases.CONV_EPILOGUES),
    lambda problem: PostOp.BIAS in problem.post and problem.x.dtype == "f32",
)
def test_epilogues_hand_nan_on(name, problem):
    planned = plan(problem, policy_for(name))
    data = operands(problem)
    data.epilogue["bias"][0] = np.nan
    y = run(planned, data)
    want = oracle.wanted(problem, data)
    assert_array_equal(np.isnan(y), np.isnan(want))
    assert np.isnan(want).any()


@pytest.mark.parametrize("name", ALGORITHMS)
def test_refusals_have_words(name):
    refused = [r for r in (refusal(name, problem) for problem in EVERYTHING) if r is not None]
    assert all(isinstance(r, Rejected) and len(str(r)) >= 8 for r in refused)
    # The reference is there for what everybody else refuses.
    assert bool(refused) != name.endswith(".reference")


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_direction_runs_or_is_refused_by_name(name, direction):
    problems = [problem for problem in EVERYTHING if problem.direction is direction]
    reasons = [refusal(name, problem) for problem in problems]
    if None in reasons:
        return
    own = (
        ConvProblem
        if any(refusal(name, p) is None for p in EVERYTHING if isinstance(p, ConvProblem))
        else PoolProblem
    )
    for problem, reason in zip(problems, reasons, strict=True):
        assert not isinstance(problem, own) or direction in str(reason)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_runs_some_cases(name):
    assert sum(refusal(name, problem) is None for problem in EVERYTHING) >= 10
