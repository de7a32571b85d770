"""MNN: weights prepared when a module is loaded; NC4HW4 between its layers."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from convforge.bench.peers import parts
from convforge.bench.rows import Array, Call, Row, Unable
from convforge.problem import ConvProblem, Order, PoolProblem, Problem
from convforge.testing.data import Operands


class MNN:
    """Modules of one convolution in two dimensions, in its highest precision: float32."""

    name = "mnn"

    def __init__(self) -> None:
        with _unheard():
            from MNN import expr, nn

        self._expr, self._nn = expr, nn
        self._threads = 1

    def set_threads(self, count: int) -> None:
        """Modules loaded from now on have this many threads."""
        self._threads = count

    def quiet(self) -> AbstractContextManager[Any]:
        """Nothing to switch off."""
        return nullcontext()

    def calls(self, problem: Problem, data: Operands, rows: Iterable[Row]) -> dict[Row, Call]:
        """Warm weights only."""
        parts.require_inference(problem, self.name)
        if problem.rank != 2 or isinstance(problem, PoolProblem):
            raise Unable("only convolutions of images are compared with MNN")
        parts.refuse_uneven(problem)
        if problem.groups not in (1, problem.C) or problem.groups not in (1, problem.K):
            raise Unable("its expressions build no groups of several channels")
        module = self._module(problem, parts.filters_first(problem, data))
        x = parts.images_first(problem, data)
        plain = self._expr.const(x, list(x.shape), self._expr.NCHW)
        images = self._expr.convert(plain, self._expr.NC4HW4)
        images.read()  # converted now, not inside what is timed
        run = partial(module.forward, [images])
        return {Row.WARM: Call(run, partial(self._read, order=problem.y.order))}

    def _module(self, problem: ConvProblem, w: Array) -> Any:
        ops = self._expr
        x = ops.placeholder([problem.N, problem.C, *problem.size], ops.NC4HW4)
        x.name = "x"
        # Its axes are horizontal, vertical.
        stride, padding, dilation = (tuple(reversed(words)) for words in parts.geometry(problem))
        y = ops.conv2d(
            x,
            ops.const(w, list(w.shape), ops.NCHW),
            ops.const(np.zeros(problem.K, np.float32), [problem.K], ops.NCHW),
            stride,
            padding,
            dilation,
            problem.groups,
            ops.CAFFE,
        )
        y.name = "y"
        settings = {"backend": "CPU", "numThread": self._threads, "precision": "high"}
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "layer.mnn")
            ops.save([y], path)
            with _unheard():
                runtime = self._nn.create_runtime_manager((settings,))
                return self._nn.load_module_from_file(path, ["x"], ["y"], runtime_manager=runtime)

    def _read(self, result: list[Any], order: Order) -> Array:
        plain = self._expr.convert(result[0], self._expr.NCHW)
        return parts.in_order(np.array(plain.read()), order)


@contextmanager
def _unheard() -> Iterator[None]:
    """Its library reports on standard output, past Python, whenever it starts."""
    sys.stdout.flush()
    kept = os.dup(1)
    silence = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(silence, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(silence)
        os.close(kept)
