"""Plans: the choice, its words, its promises, and what they refuse."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import convforge
from convforge import Policy, UnsupportedProblem, reference
from convforge.plan import PreparedWeights
from convforge.problem import parse
from convforge.runtime import memory
from convforge.testing.data import operands

TEXT = "fprop:f32:nhwc:n2c8h9w7_k20r3s3_p1x1+bias+relu"


@pytest.fixture
def case():
    plan = convforge.plan(TEXT)
    given = operands(plan.problem, "integers")
    expected = reference.compute(plan.problem, *given.arrays, **given.epilogue)
    return plan, given, expected


def test_equal_questions_get_the_same_plan():
    assert convforge.plan(TEXT) is convforge.plan(parse(TEXT), Policy())
    assert convforge.plan(TEXT, Policy(threads=1)) is not convforge.plan(TEXT)


def test_plans_pickle_and_copy(case):
    plan, given, expected = case
    again = pickle.loads(pickle.dumps(plan))
    assert (again.problem, again.algorithm, again.config) == (
        plan.problem,
        plan.algorithm,
        plan.config,
    )
    assert copy.deepcopy(plan) is plan
    np.testing.assert_array_equal(again(*given.arrays, **given.epilogue), expected)


def test_plans_cannot_be_changed(case):
    with pytest.raises(AttributeError, match="immutable: problem"):
        case[0].problem = "another"


def test_prepared_weights_serve_plans_of_any_size(case):
    plan, given, expected = case
    x, w = given.arrays
    prepared = plan.prepare(w)
    assert prepared.format == plan.weight_format.id and prepared.nbytes == prepared.data.nbytes
    np.testing.assert_array_equal(plan(x, prepared, **given.epilogue), expected)
    larger = TEXT.replace("n2", "n1").replace("h9w7", "h14w14")
    other = convforge.plan(larger, convforge.Policy(algorithm=plan.algorithm))
    assert other.weight_format.id == prepared.format
    images = operands(other.problem, "integers").arrays[0]
    np.testing.assert_array_equal(
        other(images, prepared, **given.epilogue),
        reference.compute(other.problem, images, w, **given.epilogue),
    )
    with pytest.raises(ValueError, match="read-only"):
        prepared.data[0] = 1
    wrong = convforge.plan(TEXT.replace("k20", "k24"))
    with pytest.raises(ValueError, match=r"prepared weights have the format .* prepare them"):
        wrong(x, prepared, bias=np.zeros(24, np.float32))


PLAIN = "fprop:f32:nhwc:n1c{C}h8w8_k4r1s1"


def test_prepared_weights_that_are_plain_are_checked_as_such():
    run, other = (convforge.plan(PLAIN.format(C=C), Policy(algorithm="conv_few")) for C in (64, 8))
    assert run.weight_format is None
    x, w = operands(run.problem, "integers").arrays
    prepared = run.prepare(w)
    np.testing.assert_array_equal(run(x, prepared), run(x, w))
    with pytest.raises(ValueError, match="w has shape"):
        run(x, other.prepare(operands(other.problem).arrays[1]))
    for data, error in ((w.astype(float), "dtype float64"), (w.tolist(), "w is a list")):
        with pytest.raises(TypeError, match=error):
            run(x, PreparedWeights(prepared.format, data))


def test_prepared_weights_hold_the_bytes_of_their_format(case):
    plan, given, _ = case
    x, w = given.arrays
    prepared = plan.prepare(w)
    for data, error, words in (
        (prepared.data[:-4], ValueError, r"have \d+ bytes; wanted \d+"),
        (bytes(prepared.data), TypeError, "hold a bytes; wanted bytes in host memory"),
    ):
        with pytest.raises(error, match=words):
            plan(x, PreparedWeights(prepared.format, data), **given.epilogue)


def test_launch_takes_addresses(case):
    plan, given, expected = case
    out = np.full(plan.problem.y_shape, np.nan, np.float32)
    arrays = [*given.arrays, out, given.epilogue["bias"]]
    plan.launch([array.ctypes.data for array in arrays])
    np.testing.assert_array_equal(out, expected)
    with pytest.raises(UnsupportedProblem, match="no launches"):
        convforge.plan(TEXT, Policy(algorithm="reference")).launch([0, 0, 0, 0])


@pytest.mark.parametrize(
    "text",
    [
        "fprop:f32:n2c8h9w7_k20r3s3_p1x1",
        "dgrad:f32:n2c8h9w7_k20r3s3_st2x2_p1x1",
        "wgrad:f32:n2c8h9w7_k20r3s3_p1x1",
        "wgrad:f32:n2c2h9w7_k3r3s3_p1x1",
    ],
)
@pytest.mark.parametrize("algorithm", ["conv_direct", "conv_im2col"])
def test_nothing_is_written_beside_the_workspace(text, algorithm):
    try:
        plan = convforge.plan(text, Policy(algorithm=algorithm))
    except UnsupportedProblem as refusal:
        assert "smallest tile" in str(refusal)
        return
    given = operands(plan.problem, "integers")
    with memory.poison():
        result = plan(*given.arrays)
    np.testing.assert_array_equal(result, reference.compute(plan.problem, *given.arrays))


def test_a_named_algorithm_is_never_replaced():
    with pytest.raises(UnsupportedProblem) as refusal:
        convforge.plan(
            "fprop:f32:n1c3h8w8_k4r3s3_p1x1_mreflectxreflect", Policy(algorithm="conv_direct")
        )
    text = str(refusal.value)
    assert "fprop:f32:n1c3h8w8_k4r3s3_p1x1_mreflectxreflect" in text
    for algorithm in convforge.algorithms("cpu"):
        assert algorithm.name in text, "every refusal keeps its words"
    with pytest.raises(ValueError, match="algorithm 'nothing' is unknown; there is cpu"):
        convforge.plan(TEXT, Policy(algorithm="nothing"))


def test_a_workspace_limit_is_obeyed():
    text = "fprop:f32:n1c64h28w28_k64r3s3_p1x1"
    for limit in (0, 4 << 10, 64 << 10, 1 << 20):
        plan = convforge.plan(text, Policy(workspace_limit=limit))
        assert plan.workspace_bytes <= limit


def test_explanations_name_everybody(case):
    explanation = case[0].explain()
    text = str(explanation)
    assert TEXT in text and explanation.chosen == case[0].algorithm
    named = {c.algorithm.name for c in explanation.candidates} | {
        n for n, _ in explanation.rejected
    }
    assert named == {algorithm.name for algorithm in convforge.algorithms("cpu")}
    assert all(name in text for name in named)


def test_strict_nan_keeps_infinities_to_their_window():
    text = "dgrad:f32:n1c1h4w1_k1r3s1_p1x0"
    dy = np.ones((1, 1, 4, 1), np.float32)
    w = np.array([np.nan, 1, 1], np.float32).reshape(1, 1, 3, 1)
    strict = convforge.plan(text, Policy(strict_nan=True))
    result = strict(dy, w)
    np.testing.assert_array_equal(result, reference.compute(parse(text), dy, w))
    assert np.isfinite(result[0, 0, 3, 0])


WRONG = [
    (lambda p, x, w, b: p(x), TypeError, "takes x, w; got 1 arrays"),
    (lambda p, x, w, b: p(x.tolist(), w, bias=b), TypeError, "x is a list; wanted a NumPy array"),
    (lambda p, x, w, b: p(x.astype("f8"), w, bias=b), TypeError, "x has dtype float64; wanted"),
    (lambda p, x, w, b: p(x[:1], w, bias=b), ValueError, r"x has shape \(1, .*wanted \(2, "),
    (lambda p, x, w, b: p(x[:, ::-1], w, bias=b), ValueError, "x is not C-contiguous"),
    (lambda p, x, w, b: p(x, w), ValueError, r"needs bias of shape \(20,\); none came"),
    (lambda p, x, w, b: p(x, w, bias=b[:3]), ValueError, r"bias has shape \(3,\)"),
    (lambda p, x, w, b: p(x, w, bias=b, residual=x), ValueError, "takes no residual"),
    (lambda p, x, w, b: p(x, w, bias=b, out=x), ValueError, "out has shape"),
]


@pytest.mark.parametrize(("call", "kind", "words"), WRONG)
def test_wrong_arrays_are_named(case, call, kind, words):
    plan, given, _ = case
    with pytest.raises(kind, match=words) as refusal:
        call(plan, *given.arrays, given.epilogue["bias"])
    assert TEXT in str(refusal.value)


def test_out_may_overlap_nothing(case):
    plan, given, _ = case
    x, w = given.arrays
    shape = plan.problem.y_shape
    both = np.zeros(int(np.prod(shape)), np.float32)
    with pytest.raises(ValueError, match=r"out overlaps an input of shape \(20,\)"):
        plan(x, w, bias=both[:20], out=both.reshape(shape))
    both.flags.writeable = False
    with pytest.raises(ValueError, match="out is read-only"):
        plan(x, w, bias=given.epilogue["bias"], out=both.reshape(shape))


def test_accumulate_adds_to_out():
    plan = convforge.plan("fprop:f32:n1c3h6w6_k5r3s3+accumulate")
    given = operands(plan.problem, "integers")
    out = np.ones(plan.problem.y_shape, np.float32)
    plan(*given.arrays, out=out)
    np.testing.assert_array_equal(out, 1 + reference.compute(plan.problem, *given.arrays))
    with pytest.raises(ValueError, match="out must be given"):
        plan(*given.arrays)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((None,), "problem is a NoneType"),
        ((TEXT, "conv_direct"), "policy is a str; wanted a Policy"),
    ],
)
def test_plan_names_a_wrong_argument(arguments, words):
    with pytest.raises(TypeError, match=words):
        convforge.plan(*arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"algorithm": ""}, "algorithm is ''"),
        ({"algorithm": 3}, "algorithm is 3"),
        ({"accuracy": "some"}, "accuracy is 'some'"),
        ({"accuracy": -1}, "accuracy is -1"),
        ({"accuracy": float("nan")}, "accuracy is nan"),
        ({"accuracy": True}, "accuracy is True"),
        ({"deterministic": "no"}, "deterministic is 'no'"),
        ({"workspace_limit": 1.5}, "workspace_limit is 1.5"),
        ({"workspace_limit": -1}, "workspace_limit is -1"),
        ({"threads": 0}, "threads is 0"),
        ({"threads": "x"}, "threads is 'x'"),
        ({"tune": "always"}, "tune is 'always'"),
    ],
)
def test_policies_name_a_wrong_field(arguments, words):
    with pytest.raises((TypeError, ValueError), match=words):
        Policy(**arguments)


def test_accuracy_is_a_limit_in_units():
    loose = convforge.plan(TEXT, Policy(accuracy=4.0))
    assert loose.tolerance.growth <= 4
    with pytest.raises(UnsupportedProblem, match="errs by up to 4 units"):
        convforge.plan(TEXT, Policy(accuracy=0.5))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fprop:f32:n99999999999999999999c3w9_k4s3", "an operand has more than"),
        ("fprop:f32:n9c3h8w8_k4r3s3_p99999999999x99999999999", "an operand has more than"),
        ("fprop:f32:n1c3w8_k4s3_p99999999999999", "pad_lo of axis w is 99999999999999"),
    ],
)
def test_sizes_beyond_any_memory_are_refused(text, words):
    with pytest.raises(ValueError, match=words):
        convforge.plan(text)


def test_preparing_weights_counts_where_calls_do_it():
    text = "fprop:f32:n1c256h14w14_k256r3s3_p1x1"
    times = {
        prepared: {
            candidate.algorithm.name: candidate.time_ms
            for candidate in convforge.plan(text, Policy(prepared=prepared, threads=2))
            .explain()
            .candidates
        }
        for prepared in (True, None, False)
    }
    for name in ("cpu.conv_winograd3x3.f2", "cpu.conv_winograd3x3.f5"):
        assert times[True][name] < times[None][name] < times[False][name]
    # Packed a few blocks at a time, and used from the L2.
    assert times[None]["cpu.conv_direct"] == times[False]["cpu.conv_direct"]
