"""Several Python threads at once, a child after a fork, every threading layer."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from convforge.runtime import threads

PRELUDE = """
import numpy as np
from concurrent.futures import ThreadPoolExecutor
from convforge.plan import Policy, plan
from convforge import reference

def make(text, seed):
    p = plan(text, Policy(algorithm="conv_direct"))
    rng = np.random.default_rng(seed)
    x = rng.integers(-4, 5, p.problem.x_shape).astype(np.float32)
    w = rng.integers(-4, 5, p.problem.w_shape).astype(np.float32)
    return p, x, w, reference.compute(p.problem, x, w)

big = make("fprop:f32:nhwc:n2c32h28w28_k64r3s3_p1x1", 0)
small = make("fprop:f32:n1c8h14w14_k24r3s3_p1x1", 1)

def right(case):
    p, x, w, expected = case
    return np.array_equal(p(x, w), expected)
"""
BODIES = {
    "four threads": """
    def hammer(i):
        return all(right((big, small)[(i + j) % 2]) for j in range(25))
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(hammer, range(4)))
    """,
    "forked child": """
    import os
    assert right(big) and right(small)
    child = os.fork()
    if child == 0:
        os._exit(0 if right(big) and right(small) else 3)
    assert os.waitpid(child, 0)[1] == 0
    assert right(big)
    """,
}


def run(body: str, layer: str) -> subprocess.CompletedProcess[str]:
    code = textwrap.dedent(PRELUDE) + textwrap.dedent(body) + "\nprint('fine')"
    env = os.environ | {"NUMBA_THREADING_LAYER": layer, "NUMBA_NUM_THREADS": "2"}
    return subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code],
        env=env,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.parametrize("layer", ["omp", "tbb", "workqueue"])
@pytest.mark.parametrize("body", BODIES, ids=lambda name: name.replace(" ", "-"))
def test_results_are_right_under(layer, body):
    if layer == "tbb" and not (Path(sys.prefix) / "lib" / "libtbb.so.12").exists():
        pytest.skip("the tbb wheel is not installed")
    if body == "forked child" and not hasattr(os, "fork"):
        pytest.skip("this platform does not fork")
    done = run(BODIES[body], layer)
    assert done.returncode == 0 and done.stdout == "fine\n", done.stderr


def test_the_default_layer_is_omp():
    code = "from convforge.runtime import threads; print(threads.layer())"
    env = {k: v for k, v in os.environ.items() if k != "NUMBA_THREADING_LAYER"}
    found = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert found.stdout == "omp\n"


def test_num_threads_is_set_and_refused():
    before = threads.get_num_threads()
    try:
        threads.set_num_threads(1)
        assert threads.get_num_threads() == 1
        with pytest.raises(ValueError, match=r"num_threads is 0; wanted 1 to \d+"):
            threads.set_num_threads(0)
        with pytest.raises(ValueError, match="num_threads is 10000"):
            threads.set_num_threads(10000)
    finally:
        threads.set_num_threads(before)
