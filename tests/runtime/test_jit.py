"""The disk cache: hits, covers every file of a room, survives damage."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import convforge.kernels.cpu

CALL = """
import numpy as np
from convforge.contract import KernelRef
from convforge.kernels.cpu._vector import Vector
from convforge.kernels.cpu._planes import transpose_matrices, to_channels_last
from convforge.problem import DType
from convforge.executor import Executable
from convforge.contract import Program
from convforge.runtime.machine import cpu
x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
y = np.zeros((2, 4, 3), np.float32)
step = to_channels_last("x", "y", DType.F32, 2, 3, (4,))
Executable(Program(steps=(step,)), ["x", "y"], cpu()).run([x.ctypes.data, y.ctypes.data])
assert np.array_equal(y, x.transpose(0, 2, 1))
print(sum(transpose_matrices.stats.cache_hits.values()))
"""


PARTS = """
import sys
import numpy as np
from numba.core import types
from convforge.contract import KernelRef
from convforge.kernels.cpu._vector import Vector
from convforge.runtime.jit import address_of, device, kernel
from convforge.runtime.launch import launch
from convforge.runtime.rawmem import load_word, store_word
from convforge.runtime.tasks import claimed

# Functions of this file, so that nothing but the cache knows them.
@device
def square(n):
    return n * n

@kernel
def squares(config, constants, pointers, worker, work):
    for task in claimed(work, worker):
        store_word(load_word(pointers) + 8 * task, square(task))

@kernel
def squares_and_one(config, constants, pointers, worker, work):
    for task in claimed(work, worker):
        store_word(load_word(pointers) + 8 * task, square(task) + 1)

second = sys.argv[1] == "second"
result = np.zeros(100, np.int64)
function = squares_and_one if second else squares
launch(address_of(KernelRef(function, Vector("f32"))), 0, [result.ctypes.data], 2, len(result))
assert np.array_equal(result, np.arange(100) ** 2 + second)
part = square.overloads[(types.int64,)]
assert not part.library.get_pointer_to_function(part.fndesc.mangled_name)  # no machine code
print(sum(claimed.stats.cache_hits.values()), sum(square.stats.cache_hits.values()))
"""


def run(cache: Path, path: str | None = None) -> int:
    env = os.environ | {"CONVFORGE_CACHE_DIR": str(cache)}
    if path is not None:
        env["PYTHONPATH"] = path
    done = subprocess.run(
        [sys.executable, "-c", CALL], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_a_second_process_loads_what_the_first_compiled(tmp_path):
    assert run(tmp_path) == 0
    assert run(tmp_path) == 1


def test_another_kernel_links_parts_from_disk(tmp_path):
    script = tmp_path / "parts.py"
    script.write_text(PARTS)
    env = os.environ | {"CONVFORGE_CACHE_DIR": str(tmp_path / "cache")}
    for which, hits in (("first", "0 0"), ("second", "1 1")):
        done = subprocess.run(
            [sys.executable, str(script), which], env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == hits


def test_damaged_files_are_compiled_again(tmp_path):
    run(tmp_path)
    for path in tmp_path.rglob("*.nb[ic]"):
        path.write_bytes(b"not a cache")
    assert run(tmp_path) == 0
    assert run(tmp_path) == 1


def test_a_change_in_another_file_of_the_room_is_seen(tmp_path):
    source = Path(convforge.kernels.cpu.__file__).resolve().parents[2]
    package = Path(sys.modules["convforge"].__file__).resolve().parent
    shutil.copytree(package, tmp_path / "src" / "convforge", ignore=shutil.ignore_patterns("*.pyc"))
    room = tmp_path / "src" / "convforge" / "kernels" / "cpu"
    assert source.exists() and room.is_dir()
    cache = tmp_path / "cache"
    path = str(tmp_path / "src")
    assert run(cache, path) == 0
    assert run(cache, path) == 1
    with (room / "_tile.py").open("a") as file:
        file.write("\n# changed\n")
    assert run(cache, path) == 0


def test_a_read_only_cache_directory_does_not_matter(tmp_path, tmp_path_factory, monkeypatch):
    # What it falls back on is empty, whoever has run these tests on this machine before.
    monkeypatch.setenv("TMPDIR", str(tmp_path_factory.mktemp("instead")))
    if os.geteuid() == 0:
        # Root may write everywhere: a file in the way of the directory refuses root too.
        (tmp_path / "file").write_text("")
        assert run(tmp_path / "file" / "cache") == 0
    else:
        tmp_path.chmod(0o500)
        assert run(tmp_path) == 0


@pytest.mark.parametrize("missing", ["C", "unknown"])
def test_packing_an_argument_struct_names_what_is_wrong(missing):
    from convforge.runtime.args import Layout

    layout = Layout("Test", "N C")
    values = {"N": 1} if missing == "C" else {"N": 1, "C": 2, "unknown": 3}
    with pytest.raises(TypeError, match=missing):
        layout.pack(**values)
