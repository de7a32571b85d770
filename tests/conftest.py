"""What all tests share: property tests without deadlines, other frameworks, comparisons with them.

At the end stands a count of what could not run.
"""

from __future__ import annotations

import gc
import importlib.util
import os

import numpy as np
import pytest
from hypothesis import settings

from convforge.testing import peers

# JAX compiles each shape that it is compared on; code that runs once need not be fast.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

# In CI this inherits Hypothesis's own profile for it: the same examples every time.
settings.register_profile("convforge", deadline=None)
settings.load_profile("convforge")

# An algorithm of ours may err by 4 units, and the other framework's is given as many.
MOST_UNITS = 8
OPSET = 19  # the first whose AveragePool has dilations


def pytest_collection_finish() -> None:
    """Twenty thousand collected tests stay to the end: the collector need not look at them."""
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    terminalreporter.write_line(peers.summary(str(report.longrepr) for report in skipped))


@pytest.fixture(scope="module")
def jax():
    jax = peers.require("jax")
    # An accelerator may round what it multiplies.
    with jax.default_device(jax.devices("cpu")[0]):
        yield jax


@pytest.fixture(scope="module")
def keras(tmp_path_factory):
    backend = "jax" if importlib.util.find_spec("jax") else "torch"
    peers.require(backend)
    with pytest.MonkeyPatch.context() as patch:
        # Read once, at import; its settings are kept out of the home directory.
        patch.setenv("KERAS_BACKEND", backend)
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
        return peers.require("keras")


@pytest.fixture(scope="module")
def onnx():
    """``onnx(operator, outputs=1, **attributes)`` is a function of NumPy arrays."""
    onnx, runtime = peers.require("onnx"), peers.require("onnxruntime")
    helper = onnx.helper
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1

    def function(operator, outputs=1, **attributes):
        def call(*arrays):
            names = [f"x{i}" for i in range(len(arrays))]
            results = [f"y{i}" for i in range(outputs)]
            node = helper.make_node(operator, names, results, **attributes)
            graph = helper.make_graph(
                [node],
                operator,
                [
                    helper.make_tensor_value_info(
                        name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
                    )
                    for name, array in zip(names, arrays, strict=True)
                ],
                [onnx.ValueInfoProto(name=name) for name in results],
            )
            model = helper.make_model(
                graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9
            )
            session = runtime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
            return session.run(None, dict(zip(names, arrays, strict=True)))

        return call

    return function


@pytest.fixture
def agree():
    """``agree(ours, theirs, *shapes)`` calls both with the same arrays of these shapes."""
    return _agree


def _agree(ours, theirs, *shapes, dtype=np.float32, exact=True, whole=False):
    """Raise unless both give the same arrays, in number, shape, type and values.

    They must be linear in every argument (or linear but for signs, as a maximum is), because the
    unit of error, eps times the sum without signs, is what ``theirs`` makes of magnitudes.
    ``exact`` says that small integers give sums which nothing rounds. With ``whole`` the unit is
    that of the largest sum, because algorithms that transform images may be chosen.
    """
    rng = np.random.default_rng(0)
    dtype = np.dtype(dtype)
    if exact and not whole:
        integers = [_draw(lambda s: rng.integers(-4, 5, s), shape, dtype) for shape in shapes]
        pairs = zip(_arrays(ours(*integers)), _arrays(theirs(*integers)), strict=True)
        for got, wanted in pairs:
            np.testing.assert_array_equal(got, wanted, strict=True)
    if dtype.kind not in "fc":
        return
    normal = [_draw(rng.standard_normal, shape, dtype) for shape in shapes]
    scales = _arrays(theirs(*map(np.abs, normal)))
    results = zip(_arrays(ours(*normal)), _arrays(theirs(*normal)), scales, strict=True)
    for got, wanted, scale in results:
        assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
        scale = scale.max(initial=0) if whole else scale
        units = np.abs(got - wanted) / (np.finfo(dtype).eps * np.maximum(scale, 1e-30))
        assert units.max(initial=0) <= MOST_UNITS


def _draw(real, shape, dtype):
    values = real(shape) + 1j * real(shape) if dtype.kind == "c" else real(shape)
    return values.astype(dtype)


def _arrays(results):
    return [np.asarray(r) for r in (results if isinstance(results, tuple | list) else (results,))]
