"""Arrays of other libraries on a device, and everything that can be missing there."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from convforge import Tensor, nn
from convforge import functional as F
from convforge.arrays import as_array, device_named
from convforge.runtime.cuda import device as devices
from convforge.runtime.cuda.compiler import CudaUnavailableError
from convforge.runtime.cuda.device import DeviceMemoryError

try:
    from convforge.testing.device import EmulatedArray, emulated_device, missing
except ImportError as error:
    pytest.skip(f"no GPU leg: {error}", allow_module_level=True)
if missing():
    pytest.skip(f"no GPU leg: {missing()}", allow_module_level=True)


@pytest.fixture(scope="module")
def device():
    with emulated_device() as found:
        yield found


def whole(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(dtype)


class Foreign:
    """An array of a library that nobody has heard of, over memory of the device."""

    def __init__(self, array):
        self.kept = array
        self.__cuda_array_interface__ = array.__cuda_array_interface__


X, W = whole(1, 3, 6, 8), whole(4, 3, 3, 3)


def test_memory_of_others_is_used_in_place(device):
    lent = device.asarray(X)
    seen = as_array(Foreign(lent), "x")
    assert isinstance(seen, EmulatedArray) and device.address(seen) == device.address(lent)
    view = lent[:, :, ::2, 1:-1]
    seen = as_array(Foreign(view), "x")
    assert seen.strides == view.strides and device.address(seen) == device.address(view)
    np.testing.assert_array_equal(seen.get(), X[:, :, ::2, 1:-1])


def test_results_are_the_devices_own_arrays(device):
    x, w = Foreign(device.asarray(X)), Foreign(device.asarray(W))
    y = F.conv2d(x, w, padding=1)
    assert isinstance(y, EmulatedArray)
    np.testing.assert_array_equal(y.get(), F.conv2d(X, W, padding=1))
    assert isinstance(F.relu(x), EmulatedArray) and isinstance(F.max_pool2d(x, 2), EmulatedArray)
    layer = nn.Conv2d(3, 4, 3).to("emulated:0").eval()
    assert isinstance(layer(x), EmulatedArray)
    assert Tensor(x).device == "emulated:0"
    out = device.empty((1, 4, 4, 6), np.dtype(np.float32))
    foreign = Foreign(out)
    assert F.conv2d(x, w, out=foreign) is foreign
    np.testing.assert_array_equal(out.get(), F.conv2d(X, W))


def test_memory_of_no_known_device(device):
    lost = SimpleNamespace(__cuda_array_interface__={"shape": (1,), "data": (0, False)})
    with pytest.raises(CudaUnavailableError, match=r"input is a .*SimpleNamespace in the memory"):
        as_array(lost, "input")


@pytest.fixture
def torch(monkeypatch, device):
    """As much of PyTorch, with CUDA, as this room asks it for."""

    class Tensor:
        def __init__(self, array, requires_grad=False):
            self.kept = array
            self.requires_grad = requires_grad
            self.device = SimpleNamespace(type="cuda")
            self.shape = array.shape

        @property
        def __cuda_array_interface__(self):
            if self.requires_grad:
                raise RuntimeError("Can't get __cuda_array_interface__ on Variable that requires")
            return self.kept.__cuda_array_interface__

        def __dlpack_device__(self):
            return 2, 0

        def __dlpack__(self, **_):
            raise AssertionError("the emulated device reads the other protocol")

        def detach(self):
            return Tensor(self.kept)

        def resolve_conj(self):
            return self

        resolve_neg = resolve_conj

    stub = ModuleType("torch")
    stub.Tensor, stub.from_dlpack, stub.is_grad_enabled = Tensor, Tensor, lambda: stub.recording
    stub.recording = True
    monkeypatch.setitem(sys.modules, "torch", stub)
    monkeypatch.delitem(sys.modules, "convforge.arrays.torch_", raising=False)
    yield stub
    sys.modules.pop("convforge.arrays.torch_", None)
    package = sys.modules["convforge.arrays"]
    if hasattr(package, "torch_"):
        del package.torch_


def test_tensors_of_torch_come_back_as_such(device, torch):
    x, w = torch.Tensor(device.asarray(X)), torch.Tensor(device.asarray(W))
    y = F.conv2d(x, w)
    assert isinstance(y, torch.Tensor)
    np.testing.assert_array_equal(y.kept.get(), F.conv2d(X, W))
    assert isinstance(F.relu(x), torch.Tensor)
    y, places = F.max_pool2d(x, 2, return_indices=True)
    assert isinstance(y, torch.Tensor) and isinstance(places, torch.Tensor)
    with pytest.raises(TypeError, match=r"runs on the CPU: pass input\.cpu\(\)"):
        F.pad(x, (1, 1))


def test_a_place_that_dlpack_has_no_number_for(device, torch, monkeypatch):
    def unknown(self):
        raise ValueError("Unknown device type meta for Dlpack")

    x = torch.Tensor(device.asarray(X))
    x.device.type = "meta"
    monkeypatch.setattr(torch.Tensor, "__dlpack_device__", unknown)
    with pytest.raises(TypeError, match=r"input is a torch tensor on .*meta"):
        F.relu(x)


def test_recorded_tensors_of_torch_are_refused(device, torch):
    x = torch.Tensor(device.asarray(X), requires_grad=True)
    with pytest.raises(TypeError, match=r"input is a torch tensor that requires grad.*detach"):
        F.max_pool2d(x, 2)
    torch.recording = False
    assert isinstance(F.max_pool2d(x, 2), torch.Tensor)


@pytest.fixture
def no_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.delitem(sys.modules, "convforge.arrays.cupy_", raising=False)
    monkeypatch.setattr(devices, "_providers", [])


def test_cupy_is_missing(no_cupy, device):
    wanted = r"CuPy is not installed.*pip install 'convforge\[cuda13\]'"
    for call in (
        lambda: Tensor(X).to("cuda"),
        lambda: nn.Linear(2, 3).to("cuda:1"),
        lambda: device_named("cuda"),
        lambda: F.conv2d(Foreign(device.asarray(X)), W),
    ):
        with pytest.raises(CudaUnavailableError, match=wanted):
            call()


class Runtime:
    """What CuPy's runtime says of a machine."""

    CUDARuntimeError = RuntimeError

    def __init__(self, version, count):
        self.version, self.count = version, count

    def driverGetVersion(self):
        if self.version is None:
            raise RuntimeError("cudaErrorInsufficientDriver")
        return self.version

    def getDeviceCount(self):
        if self.count is None:
            raise RuntimeError("cudaErrorNoDevice")
        return self.count

    def getDevice(self):
        return 0

    def memGetInfo(self):
        return 1000, 5000


@pytest.mark.parametrize(
    ("version", "count", "wanted"),
    [
        (None, 0, "no NVIDIA driver answers"),
        (0, 0, "there is no NVIDIA driver on this machine; install one"),
        (13000, None, "the NVIDIA driver sees no GPU .*cudaErrorNoDevice"),
        (13000, 0, "the NVIDIA driver sees no GPU"),
        (12040, 1, r"driver is one of CUDA 12.*pip install 'convforge\[cuda12\]', or update"),
    ],
)
def test_no_gpu_to_go_to(monkeypatch, version, count, wanted):
    pytest.importorskip("cupy")
    from convforge.arrays import cupy_

    monkeypatch.setattr(cupy_, "runtime", Runtime(version, count))
    for call in (lambda: Tensor(X).to("cuda"), lambda: nn.Linear(2, 3).cuda()):
        with pytest.raises(CudaUnavailableError, match=wanted):
            call()


def test_a_gpu_that_is_not_there(monkeypatch):
    pytest.importorskip("cupy")
    from convforge.arrays import cupy_

    monkeypatch.setattr(cupy_, "runtime", Runtime(13000, 2))
    with pytest.raises(ValueError, match=r"there is no cuda:7: the driver sees 2 GPUs"):
        device_named("cuda:7")


def test_no_memory_left_on_the_gpu(monkeypatch):
    """CuPy's own error, in the words of this package."""
    cupy = pytest.importorskip("cupy")
    from convforge.arrays import cupy_

    def full(*_, **__):
        raise cupy.cuda.memory.OutOfMemoryError(512, 4096, 0)

    monkeypatch.setattr(cupy_, "runtime", Runtime(13000, 2))
    gpu = object.__new__(cupy_.CupyDevice)
    gpu.number, gpu.name = 0, "cuda:0"
    for name in ("empty", "array"):
        monkeypatch.setattr(cupy_.cupy, name, full)
    monkeypatch.setattr(cupy_, "alloc", full)
    for call in (
        lambda: gpu.empty((2,), np.dtype("f4")),
        lambda: gpu.copy(X),
        lambda: gpu.put(X),
        lambda: gpu.workspace(512),
    ):
        with pytest.raises(DeviceMemoryError, match=r"cuda:0 has no memory left: .*512.*1000 are"):
            call()


def test_a_call_that_finds_no_memory_says_what_it_wanted(device):
    x, w = device.asarray(X), device.asarray(W)
    device.capacity = 100
    try:
        with pytest.raises(MemoryError) as caught:
            F.conv2d(x, w, algorithm="conv_direct")
    finally:
        device.capacity = None
    said = str(caught.value)
    assert "emulated:0 has no memory left for 384 bytes" in said
    assert "fprop:f32:n1c3h6w8_k4r3s3 by cuda_numba.conv_direct wants 384 bytes for its" in said
    assert "fewer images at a time" in said and "workspace_limit" not in said


def test_scratch_memory_that_is_not_there(device):
    """Gradients by padded images need scratch memory; less than there is of it can be asked for."""
    from convforge.plan import plan

    run = plan("dgrad:f32:n1c3h5w6_k4r3s3_p1x2_mreflectxreflect", None, device)
    assert run.workspace_bytes
    dy, w = (device.asarray(whole(*shape)) for shape in ((1, 4, 5, 8), (4, 3, 3, 3)))
    out = device.empty((1, 3, 5, 6), np.dtype(np.float32))
    device.capacity = 100
    try:
        with pytest.raises(DeviceMemoryError, match=rf"workspace_limit={run.workspace_bytes - 1}"):
            run(dy, w, out=out)
    finally:
        device.capacity = None
