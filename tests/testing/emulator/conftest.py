"""What the tests of the emulator share: PTX by hand, and compilers that may be missing."""

from __future__ import annotations

import importlib.util

import pytest

from convforge.testing import emulator


@pytest.fixture(scope="session", autouse=True)
def compiler():
    if reason := emulator.unavailable():
        pytest.skip(reason)


def pytest_collection_modifyitems(items):
    """Modules that name a compiler of kernels are skipped where it is missing, with one reason."""
    for item in items:
        for wheel in getattr(getattr(item, "module", None), "NEEDS", ()):
            if missing(wheel):
                reason = f"{wheel} is not installed: pip install 'convforge[gpucheck]'"
                item.add_marker(pytest.mark.skip(reason=reason))


def missing(wheel):
    try:
        return importlib.util.find_spec(wheel) is None
    except ModuleNotFoundError:
        return True


def entry(name, parameters, *lines, registers=""):
    """The text of a kernel; parameters are ``"u64 x"``; registers beyond the usual ones are declared."""
    listed = ", ".join(
        f".param .{kind} {parameter}" for kind, parameter in map(str.split, parameters)
    )
    body = "\n".join(f"    {line}" for line in lines)
    return f"""
.visible .entry {name}({listed})
{{
    .reg .pred %p<16>;
    .reg .b16 %h<32>;
    .reg .b32 %r<64>;
    .reg .b64 %d<64>;
    .reg .f32 %f<64>;
    .reg .f64 %e<16>;
    {registers}
{body}
    ret;
}}
"""


@pytest.fixture(scope="session", name="entry")
def entry_fixture():
    return entry


@pytest.fixture(scope="session")
def build():
    """``build(*entries, globals="")`` is a module of entries."""

    def module(*entries, globals=""):
        head = ".version 8.0\n.target sm_90a\n.address_size 64\n"
        return emulator.Emulated(f"{head}{globals}\n{''.join(entries)}")

    return module


@pytest.fixture(scope="session")
def nvrtc():
    """``nvrtc(source, architecture)`` is a module of CUDA C++, compiled without a driver."""
    from cuda.bindings import nvrtc

    def checked(results):
        status, *values = results
        assert status == nvrtc.nvrtcResult.NVRTC_SUCCESS, status
        return values[0] if values else None

    def compiled(source, architecture):
        program = checked(nvrtc.nvrtcCreateProgram(source.encode(), b"kernel.cu", 0, [], []))
        options = [f"--gpu-architecture={architecture}".encode(), b"-std=c++17"]
        (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            log = b" " * checked(nvrtc.nvrtcGetProgramLogSize(program))
            checked(nvrtc.nvrtcGetProgramLog(program, log))
            raise AssertionError(log.decode())
        ptx = b" " * checked(nvrtc.nvrtcGetPTXSize(program))
        checked(nvrtc.nvrtcGetPTX(program, ptx))
        return emulator.Emulated(ptx.rstrip(b"\0").decode())

    return compiled


@pytest.fixture(scope="session")
def launch():
    """``launch(kernel, *arrays)`` runs one block of 32 threads, unless told otherwise."""

    def run(kernel, *arrays, grid=(1,), block=(32,), scalars=(), **options):
        addresses = [array.ctypes.data for array in arrays]
        return kernel(
            grid=grid, block=block, arguments=[*addresses, *scalars], memory=arrays, **options
        )

    return run


@pytest.fixture
def finding():
    """``finding(kind, words)`` is a context in which exactly such a finding must be raised."""

    class Caught:
        def __init__(self, kind, *words):
            self.kind, self.words = kind, words

        def __enter__(self):
            return self

        def __exit__(self, kind, error, traceback):
            assert kind is emulator.Finding, error or "nothing was found"
            assert error.kind is self.kind, error
            for word in self.words:
                assert word in str(error), error
            self.error = error
            return True

    return Caught
