"""From a kernel to machine code and to a launch: caches, errors, parameters."""

from __future__ import annotations

import ctypes
import gc
import inspect
import json
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

from convforge.contract import Buffer, KernelRef, Program, Step
from convforge.plan import plan
from convforge.runtime.cuda import compiler
from convforge.runtime.cuda.compiler import CudaUnavailableError
from convforge.runtime.cuda.executable import CudaExecutable
from convforge.runtime.cuda.jit import Constants, fits_int32, kernel

try:
    from convforge.testing.device import EmulatedArray, EmulatedDevice, missing
    from convforge.testing.device_arrays import CREATORS, FUNCTIONS
except ImportError as error:
    pytest.skip(f"no GPU leg: {error}", allow_module_level=True)
if missing():
    pytest.skip(f"no GPU leg: {missing()}", allow_module_level=True)

from numba import cuda

SCALE = Constants("Scale", "count factor")


@dataclass(frozen=True)
class Config:
    index: str = "i32"
    acc: str = "f32"
    pointers: tuple[str, ...] = ("f32", "f32")


@dataclass(frozen=True)
class Shared(Config):
    shared_bytes: int = 0


@kernel(SCALE, threads=64, registers={"f32": 32})
def scale(config):
    def scale(g, x, y):
        i = cuda.grid(1)
        if i < g.count:
            y[i] = g.factor * x[i]

    return scale


def program(index="i32"):
    """y = 2 * (3 * x), through a buffer."""
    ref = KernelRef(scale, Config(index))
    steps = tuple(
        Step(
            name=name,
            kernel=ref,
            operands=operands,
            constants=SCALE.pack(index, count=100, factor=factor),
            tasks=2,
        )
        for name, operands, factor in (("first", ("x", "half"), 3), ("second", ("half", "y"), 2))
    )
    nothing = Step(name="empty", kernel=ref, operands=("x", "y"), tasks=0)
    return Program(steps=(nothing, *steps), buffers=(Buffer(name="half", nbytes=400),))


@pytest.mark.parametrize("index", ["i32", "i64"])
def test_steps_share_a_workspace(index):
    device = EmulatedDevice()
    run = CudaExecutable(program(index), ["x", "y"], device)
    assert run.workspace_bytes == 448
    for seed in range(3):
        x = np.random.default_rng(seed).integers(-9, 9, 100).astype(np.float32)
        on_device, y = device.asarray(x), device.empty((100,), x.dtype)
        run.run([device.address(on_device), device.address(y)])
        np.testing.assert_array_equal(y.get(), 6 * x)
    assert device.launches == ["scale"] * 6


def test_threads_that_start_together_keep_their_own_constants(monkeypatch):
    made = []

    def unlocked(run):
        # As a cached property without a lock, for the thread whose template is not kept.
        launches, tables, constants = template(run)
        made.extend(map(weakref.ref, constants))
        return launches, tables, constants

    template = CudaExecutable._template.func
    monkeypatch.setattr(CudaExecutable, "_template", property(unlocked))
    device = EmulatedDevice()
    run = CudaExecutable(program(), ["x", "y"], device)
    x = np.arange(100, dtype=np.float32)
    on_device, y = device.asarray(x), device.empty((100,), x.dtype)
    for _ in range(2):
        run.run([device.address(on_device), device.address(y)])
        gc.collect()
        assert len(made) == 2 and all(constants() is not None for constants in made)
    np.testing.assert_array_equal(y.get(), 6 * x)


def test_a_kernel_outside_its_arrays_is_seen():
    device = EmulatedDevice()
    run = CudaExecutable(program(), ["x", "y"], device)
    x, y = device.empty((99,), np.dtype("f")), device.empty((100,), np.dtype("f"))
    with pytest.raises(Exception, match="scale"):
        run.run([device.address(x), device.address(y)])


def test_constants_are_checked():
    with pytest.raises(TypeError, match="factor"):
        SCALE.pack("i32", count=1)
    with pytest.raises(OverflowError):
        SCALE.pack("i32", count=1, factor=2**31)
    assert SCALE.pack("i64", count=1, factor=2**31) == np.array([1, 2**31]).tobytes()
    assert (fits_int32(2**30 - 1), fits_int32(5, 2**30)) == ("i32", "i64")
    with pytest.raises(TypeError, match="a plan launches it"):
        scale()


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """An empty cache, in memory and on disk."""
    monkeypatch.setattr(compiler, "cache_dir", lambda: tmp_path)
    for cached in (compiler.ptx_of, compiler.binary_of):
        cached.cache_clear()
        monkeypatch.setattr(compiler, cached.__name__, cached)
    yield tmp_path
    for cached in (compiler.ptx_of, compiler.binary_of):
        cached.cache_clear()


def forget():
    compiler.ptx_of.cache_clear()
    compiler.binary_of.cache_clear()


def test_compiled_once_and_kept_on_disk(fresh, monkeypatch):
    ref = KernelRef(scale, Config())
    ptx, binary = compiler.ptx_of(ref), compiler.binary_of(ref, "sm_90")
    assert ptx.entry == "scale" and ".visible .entry scale(" in ptx.text
    assert binary.code[:4] == b"\x7fELF" and 0 < binary.registers <= 32
    assert compiler.binary_of(ref, "sm_80").code != binary.code
    forget()
    with monkeypatch.context() as patch:
        patch.setattr(compiler, "_compile", None)
        patch.setattr(compiler, "_link", None)
        assert compiler.ptx_of(ref) == ptx
        assert compiler.binary_of(ref, "sm_90") == binary
    for damaged in ("{damaged", '{"entry": "scale"}', "[]"):
        for path in (fresh / "cuda").iterdir():
            path.write_text(damaged)
        forget()
        assert compiler.ptx_of(ref) == ptx
        assert compiler.binary_of(ref, "sm_90") == binary
    assert all(json.loads(p.read_text()) for p in (fresh / "cuda").glob("*.ptx.json"))


def test_another_configuration_is_another_file(fresh):
    for config in (Config(), Config("i64"), Config(pointers=("f64", "f64"))):
        compiler.ptx_of(KernelRef(scale, config))
    assert len(list((fresh / "cuda").iterdir())) == 3


def test_a_device_that_the_compiler_does_not_know_is_named(fresh):
    with pytest.raises(CudaUnavailableError, match=r"no code for sm_10 of scale \(sm_75 or"):
        compiler.binary_of(KernelRef(scale, Config()), "sm_10")


@pytest.mark.parametrize("module", ["numba", "cuda.bindings"])
def test_a_missing_compiler_says_what_to_install(fresh, monkeypatch, module):
    def missing(name, *rest):
        if name == module:
            raise ImportError(f"No module named {name!r}")
        return imported(name, *rest)

    imported = __import__
    monkeypatch.setattr("builtins.__import__", missing)
    call = compiler._numba_cuda if module == "numba" else compiler._linker
    with pytest.raises(CudaUnavailableError, match=r"pip install 'convforge\[cuda13\]'"):
        call()


def test_numba_without_numba_cuda_is_said_as_such(monkeypatch):
    monkeypatch.setattr(compiler, "find_spec", lambda name: None)
    with pytest.raises(CudaUnavailableError, match="numba-cuda is not installed; install"):
        compiler._numba_cuda()


def test_what_the_assembler_says_is_not_needed(fresh, monkeypatch):
    monkeypatch.setattr(compiler, "_link", lambda ptx, arch: (b"code", "nothing"))
    binary = compiler.binary_of(KernelRef(scale, Config()), "sm_90")
    assert (binary.code, binary.registers) == (b"code", 0)


def test_another_tool_is_another_file(monkeypatch):
    ref = KernelRef(scale, Config())

    def kept():
        compiler._tools.cache_clear()
        compiler._stamp.cache_clear()
        return compiler._kept(ref, ".ptx.json")

    try:
        before = kept()
        assert kept() == before
        tools = " ".join(compiler._tools())
        assert "numba-cuda " in tools and "libnvvm" in tools and "libdevice" in tools
        version = compiler.metadata.version
        for package in ("nvidia-nvvm", "cuda-core"):
            with monkeypatch.context() as patch:
                patch.setattr(
                    compiler.metadata, "version", lambda n, p=package: version(n) + "!" * (n == p)
                )
                assert kept() != before
    finally:
        kept()


def test_nothing_is_compiled_before_the_first_run(monkeypatch):
    device = EmulatedDevice()
    loaded = []
    monkeypatch.setattr(device, "load", loaded.append)
    assert CudaExecutable(program(), ["x", "y"], device).workspace_bytes == 448
    made = plan("fprop:f32:n1c3h6w6_k4r3s3_st3x1", None, device)
    assert "conv_direct" in str(made.explain()) and made.workspace_bytes == 0
    assert not loaded


def test_workers_have_no_meaning_on_a_device():
    buffers = (Buffer(name="half", nbytes=400, scope="worker"),)
    with pytest.raises(ValueError, match="no workers"):
        CudaExecutable(Program(steps=(), buffers=buffers), [], EmulatedDevice())


class TestCupy:
    """What can be known of the real device without one."""

    def test_emulated_arrays_have_what_cupys_have(self, cupy_):
        names = [name for name in dir(EmulatedArray) if not name.startswith("_")]
        assert len(names) > 20
        assert not set(names) - set(dir(cupy_.cupy.ndarray))

    @pytest.mark.parametrize("table", [FUNCTIONS, CREATORS])
    def test_emulated_functions_are_cupys(self, cupy_, table):
        for name, keywords in table.items():
            function = getattr(cupy_.cupy, name)
            if isinstance(function, cupy_.cupy.ufunc):
                taken = {"dtype", "out", "casting"}  # its documentation
            else:
                taken = inspect.signature(function).parameters.keys()
            assert set(keywords.split()) <= set(taken), name

    @pytest.fixture
    def cupy_(self):
        pytest.importorskip("cupy")
        from convforge.arrays import cupy_

        return cupy_

    def test_no_driver_is_an_error_in_words(self, cupy_):
        if cupy_.cupy.cuda.is_available():
            pytest.skip("there is a GPU here")
        with pytest.raises(CudaUnavailableError, match="driver"):
            cupy_.gpu(0)

    def test_an_old_driver_is_an_error_in_words(self, cupy_, monkeypatch):
        monkeypatch.setattr(cupy_, "runtime", FakeRuntime(version=12080))
        with pytest.raises(CudaUnavailableError, match=r"convforge\[cuda12\]"):
            cupy_.gpu(7)

    def test_facts_become_a_machine(self, cupy_, monkeypatch):
        monkeypatch.setattr(cupy_, "runtime", FakeRuntime(version=13000))
        device = cupy_.CupyDevice(3)
        assert device.name == "cuda:3"
        assert (device.machine.isa, device.machine.threads) == ("sm_90", 132)

    def test_a_launch_hands_every_parameter_over(self, cupy_, monkeypatch):
        """A driver in Python: it reads the parameters where the real one would."""
        emulated = EmulatedDevice()
        seen = []

        class Driver:
            @staticmethod
            def launchKernel(f, gx, gy, gz, bx, by, bz, shared, stream, parameters, extra):
                assert (gy, gz, by, bz, extra) == (1, 1, 1, 1, 0)
                table = (ctypes.c_uint64 * 4).from_address(parameters)
                words = [ctypes.string_at(at, n) for at, n in zip(table, (4, 4, 8, 8), strict=True)]
                seen.append(
                    (f, gx, bx, shared, stream, [int.from_bytes(w, "little") for w in words])
                )

        class Stream:
            ptr = 77

        monkeypatch.setattr(cupy_, "runtime", FakeRuntime(version=13000))
        monkeypatch.setattr(cupy_, "driver", Driver)
        monkeypatch.setattr(cupy_, "get_current_stream", Stream)
        device = cupy_.CupyDevice(0)
        monkeypatch.setattr(device, "load", lambda ref: 5)
        monkeypatch.setattr(device, "workspace", emulated.workspace)
        run = CudaExecutable(program(), ["x", "y"], device)
        run.run([1000, 2000])
        assert cupy_.runtime.attached == [threading.get_ident()]
        run.run([1000, 2000])
        thread = threading.Thread(target=run.run, args=[[1000, 2000]])
        thread.start()
        thread.join()
        assert len(cupy_.runtime.attached) == 2 and len(seen) == 6
        del seen[2:]
        (f, *launch, first), (_, *_, second) = seen
        assert (f, *launch) == (5, 2, 64, 0, 77)
        assert (first[:3], second[:2], second[3]) == ([100, 3, 1000], [100, 2], 2000)
        assert first[3] == second[2]

    def test_one_number_is_one_device(self, cupy_, monkeypatch):
        monkeypatch.setattr(cupy_, "runtime", FakeRuntime(version=13000, wait=0.02))
        monkeypatch.setattr(cupy_, "_gpus", {})
        assert len(set(together(lambda: cupy_.gpu(5)))) == 1

    @pytest.mark.parametrize(("static", "dynamic"), [(0, 48), (40, 8), (0, 49), (40, 9)])
    def test_a_kernel_is_loaded_once(self, cupy_, monkeypatch, static, dynamic):
        unloaded, asked = [], []

        class Module:
            def load(self, code):
                time.sleep(0.02)

            def get_function(self, entry):
                return SimpleNamespace(ptr=id(self))

            def __del__(self):
                unloaded.append(id(self))

        binary = SimpleNamespace(code=b"", entry="scale", shared_bytes=static << 10)
        driver = SimpleNamespace(
            CUDADriverError=RuntimeError, funcSetAttribute=lambda *a: asked.append(a)
        )
        monkeypatch.setattr(cupy_, "runtime", FakeRuntime(version=13000))
        monkeypatch.setattr(cupy_, "driver", driver)
        monkeypatch.setattr(cupy_, "binary_of", lambda ref, arch: binary)
        monkeypatch.setattr(cupy_.cupy.cuda.function, "Module", Module)
        device = cupy_.CupyDevice(0)
        ref = KernelRef(scale, Shared(shared_bytes=dynamic << 10))
        functions = together(lambda: device.load(ref))
        assert len(set(functions)) == 1 and not unloaded
        wanted = [(functions[0], 8, dynamic << 10)] if static + dynamic > 48 else []
        assert asked == wanted


def together(call):
    """What several threads get that call at the same time."""
    with ThreadPoolExecutor(4) as pool:
        return [each.result() for each in [pool.submit(call) for _ in range(4)]]


class FakeRuntime:
    """What CuPy's runtime says of a machine."""

    CUDARuntimeError = RuntimeError

    def __init__(self, version, wait=0):
        self.version = version
        self.wait = wait
        self.attached = []

    def driverGetVersion(self):
        return self.version

    def getDevice(self):
        return 0

    def getDeviceCount(self):
        return 8

    def setDevice(self, number):
        self.current = number

    def memGetInfo(self):
        self.attached.append(threading.get_ident())

    def getDeviceProperties(self, number):
        time.sleep(self.wait)
        return {
            "major": 9,
            "minor": 0,
            "multiProcessorCount": 132,
            "sharedMemPerBlockOptin": 227 << 10,
            "l2CacheSize": 50 << 20,
        }
