"""The laboratory of a real GPU: CuPy's events, its graphs, its launches."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from convforge.bench.device.probes import EMPTY
from convforge.bench.device.timing import Run
from convforge.runtime.cuda.compiler import binary_of
from convforge.runtime.cuda.device import Device


class CupyLaboratory:
    """One GPU; everything happens on CuPy's current stream, which is PyTorch's default too.

    Attributes:
        device: What is measured.
    """

    def __init__(self, device: Device) -> None:
        import cupy

        self._cupy = cupy
        self.device = device

    def seconds(self, run: Run) -> float:
        """Between two events around what is enqueued."""
        cuda = self._cupy.cuda
        first, last = cuda.Event(), cuda.Event()
        first.record()
        run()
        last.record()
        last.synchronize()
        return float(cuda.get_elapsed_time(first, last)) / 1e3

    def host_seconds(self, run: Run) -> float:
        """From an idle device on."""
        stream = self._cupy.cuda.get_current_stream()
        stream.synchronize()
        begin = time.perf_counter()
        run()
        taken = time.perf_counter() - begin
        stream.synchronize()
        return taken

    def captured(self, run: Run) -> Run:
        """A graph of the second of two runs: the first makes what is made once."""
        stream = self._cupy.cuda.Stream(non_blocking=True)
        with stream:
            run()
            stream.synchronize()
            stream.begin_capture()
            try:
                run()
            finally:
                graph = stream.end_capture()
        return lambda: graph.launch()

    def bare_launch(self) -> Run:
        """CuPy's own function object, called with two parameters."""
        module = self._cupy.cuda.function.Module()
        module.load(binary_of(EMPTY, self.device.machine.isa).code)
        function = module.get_function(EMPTY.name)
        array = self.device.empty((1,), np.dtype(np.float32))
        arguments: Any = (np.int32(0), np.uint64(self.device.address(array)))
        kept = (module, array)

        def launch() -> Any:
            function((1,), (32,), arguments)
            return kept

        return launch
