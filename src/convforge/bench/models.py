"""Whole networks: ``convforge bench models``.

Inference by PyTorch in both memory orders, by the same model converted and optimised, and by
onnxruntime on the exported model; steps of training by PyTorch and by the converted model. All in
one process, in turns; results must agree before anything is timed.
"""

from __future__ import annotations

import copy
import io
import math
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from convforge.bench.measure import Wrong
from convforge.bench.timer import Method, Timing, race, speedup

GROUP = "models"
TORCH = ("PyTorch NCHW", "PyTorch NHWC")
CONVERT, OPTIMIZE, ONNXRUNTIME = "convert", "optimize", "onnxruntime"
INFERENCE = tuple(
    (name, batch)
    for name in ("ResNet-50", "VGG-16", "ConvNeXt-T", "MobileNetV2")
    for batch in (1, 8)
)
TRAINING = (("ResNet-18", 16), ("VGG-11", 16))
_PIXELS = 224
_AGREE = 1e-3
"""Largest difference of results, as a share of the largest element."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """One network at one batch size.

    Attributes:
        name: Of the network. batch: Images. training: A step instead of the forward pass.
        timings: By contestant. weights_bytes: Of its parameters and buffers.
        prepared_bytes: Of weights that the optimised model keeps beyond these.
        peak_bytes: What a process of its own grows by, at most, while a contestant is called.
        notes: Who is missing, and why.
    """

    name: str
    batch: int
    training: bool
    timings: dict[str, Timing]
    weights_bytes: int = 0
    prepared_bytes: int = 0
    peak_bytes: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.name}{', training' * self.training}, batch {self.batch}"

    def ratio(self, ours: str, theirs: Iterable[str] = TORCH) -> float:
        """How many times faster than the fastest of these; NaN if one was not measured."""
        mine = self.timings.get(ours)
        others = [self.timings[name] for name in theirs if name in self.timings]
        if mine is None or not others:
            return math.nan
        return min(speedup(mine, other) for other in others)


def run(
    *,
    threads: int,
    method: Method,
    before_each: Callable[[str], None] = lambda label: None,
    finished: Callable[[Model], None] = lambda model: None,
    minutes: float = 9.0,
    memory: bool = True,
) -> list[Model]:
    """Measure all of them; nothing is begun after so many minutes."""
    import torch

    import convforge

    torch.set_num_threads(threads)
    convforge.set_num_threads(threads)
    until = time.monotonic() + 60 * minutes
    found = []
    for training, wanted in ((False, INFERENCE), (True, TRAINING)):
        for name, batch in wanted:
            if time.monotonic() > until:
                break
            before_each(f"{name}, batch {batch}{', training' * training}")
            one = (train if training else infer)(name, batch, threads, method)
            if memory and not training and batch > 1:
                one = replace(one, peak_bytes=_peaks(name, batch, threads))
            finished(one)
            found.append(one)
    return found


def infer(name: str, batch: int, threads: int, method: Method) -> Model:
    """Race the contestants on forward passes.

    Raises:
        Wrong: They do not agree.
    """
    import torch

    from convforge.bench.networks import network

    model = network(name)
    x = torch.randn(batch, 3, _PIXELS, _PIXELS)
    calls: dict[str, Callable[[], Any]] = {}
    notes = []
    with torch.inference_mode():
        for who in (*TORCH, CONVERT):
            calls[who] = _call(who, model, x)
    with torch.no_grad():
        optimized = _optimized(model, x)
        calls[OPTIMIZE] = lambda: optimized(x)
        try:
            calls[ONNXRUNTIME] = _session(model, x, threads)
        except Exception as error:  # of an exporter, whatever they are
            notes.append(f"no onnxruntime: {str(error).partition(chr(10))[0]}")
        wanted = calls[TORCH[0]]()
        for who, call in calls.items():
            _agree(f"{name} by {who}", call(), wanted)
        timings = race(calls, method)
    return Model(
        name=name, batch=batch, training=False, timings=timings,
        weights_bytes=sum(tensor.nbytes for tensor in model.state_dict().values()),
        prepared_bytes=optimized.prepared_bytes, notes=tuple(notes),
    )  # fmt: skip


def train(name: str, batch: int, threads: int, method: Method) -> Model:
    """Race the contestants on steps of training: forward, backward, SGD.

    Raises:
        Wrong: Their losses differ.
    """
    import torch

    from convforge.bench.networks import network

    x = torch.randn(batch, 3, _PIXELS, _PIXELS)
    labels = torch.arange(batch)
    calls = {}
    model = network(name).train()
    for layer in model.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0  # so that losses can be compared
    for who in (*TORCH, CONVERT):
        calls[who] = _step(who, copy.deepcopy(model), x, labels)
    losses = {who: call() for who, call in calls.items()}
    for who, loss in losses.items():
        _agree(f"{name}, training, by {who}", loss, losses[TORCH[0]])
    return Model(
        name=name, batch=batch, training=True, timings=race(calls, method),
        weights_bytes=sum(tensor.nbytes for tensor in model.state_dict().values()),
    )  # fmt: skip


def _call(who: str, model: Any, x: Any) -> Callable[[], Any]:
    import torch

    import convforge.torch

    if who == TORCH[0]:
        return lambda: model(x)
    # In the memory order that suits us, which is PyTorch's better one in most cases too.
    own = copy.deepcopy(model).to(memory_format=torch.channels_last)
    images = x.contiguous(memory_format=torch.channels_last)
    if who == CONVERT:
        convforge.torch.convert(own, freeze=True)
    return lambda: own(images)


def _optimized(model: Any, x: Any) -> Any:
    import convforge.torch

    return convforge.torch.optimize(model, x)


def _step(who: str, model: Any, x: Any, labels: Any) -> Callable[[], Any]:
    import torch

    import convforge.torch

    if who != TORCH[0]:
        model = model.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
    if who == CONVERT:
        convforge.torch.convert(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)

    def step() -> Any:
        loss = torch.nn.functional.cross_entropy(model(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def _session(model: Any, x: Any, threads: int) -> Callable[[], Any]:
    import onnxruntime
    import torch

    exported = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (x,), exported, dynamo=False, opset_version=17)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        exported.getvalue(), options, providers=["CPUExecutionProvider"]
    )
    given = {session.get_inputs()[0].name: x.numpy()}
    return lambda: torch.from_numpy(session.run(None, given)[0])


def _agree(who: str, found: Any, wanted: Any) -> None:
    error, scale = float((found - wanted).abs().max()), float(wanted.abs().max())
    if not error <= _AGREE * scale:
        raise Wrong(f"{who}: errs by {error:.3g} of {scale:.3g}")


def _peaks(name: str, batch: int, threads: int) -> dict[str, int]:
    """Each contestant in a process of its own: what others free must not serve it."""
    if not Path("/proc/self/clear_refs").exists():
        return {}
    found = {}
    for who in (*TORCH, CONVERT, OPTIMIZE):
        command = [sys.executable, "-m", __name__, name, str(batch), str(threads), who]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            found[who] = int(done.stdout.split()[-1])
    return found


def _resident(which: str) -> int:
    """Bytes that the system says this process has (``VmRSS``) or had at most (``VmHWM``)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(rf"{which}:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) << 10


def _print_peak(name: str, batch: int, threads: int, who: str) -> None:
    """Growth from the model alone to the most that calls take, prepared weights included."""
    import torch

    import convforge
    from convforge.bench.networks import network

    torch.set_num_threads(threads)
    convforge.set_num_threads(threads)
    model = network(name)
    x = torch.randn(batch, 3, _PIXELS, _PIXELS)
    with torch.inference_mode(who != OPTIMIZE), torch.no_grad():
        before = _resident("VmRSS")
        call = (lambda made: lambda: made(x))(_optimized(model, x)) if who == OPTIMIZE else None
        if call is None:
            call = _call(who, model, x)
        call()
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        call()
        call()
    print(_resident("VmHWM") - before)


if __name__ == "__main__":
    _print_peak(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
