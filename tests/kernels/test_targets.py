"""Code for other machines: AVX2 and plain targets run here, the tile is compiled and read."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys

import pytest

from convforge.bench.avx2 import ENVIRONMENT

TARGETS = {
    "avx2": {name: ENVIRONMENT[name] for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES")},
    "plain": {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""},
}
RUN = """
import sys
import numpy as np
from convforge import reference
from convforge.plan import Policy, plan
from convforge.runtime.machine import isa
assert isa() == sys.argv[1], isa()
DENSE = (
    "fprop:f32:n2c20h9w11_k40r3s3_st2x1_p1x2+bias+relu",
    "dgrad:f32:nhwc-krsc:n2c20h9w11_k40r3s3_p1x1",
    "wgrad:f32:n2c20h9w11_k40r3s3_p1x1",
    "fprop:f64:nhwc:n1c9h7w7_k17r3s3_p1x1",
)
CASES = {
    "conv_direct": DENSE,
    "conv_im2col": DENSE[::2],
    "conv_few": (
        "fprop:f32:nhwc-krsc:n1c33h3w6_k4r1s1+bias+relu",
        "fprop:f64:nhwc-krsc:n1c17h3w7_k2r1s1",
    ),
    "conv_depthwise": ("dgrad:f32:nhwc-krsc:n1c16h7w7_k16r3s3_g16",),
    "conv_winograd3x3.f2": (
        "fprop:f32:n2c20h9w11_k40r3s3_p2x2_d2x1+bias+relu",
        DENSE[2],
    ),
}
for algorithm, texts in CASES.items():
    for text in texts:
        p = plan(text, Policy(algorithm=algorithm))
        rng = np.random.default_rng(0)
        shapes = {"x": p.problem.x_shape, "w": p.problem.w_shape, "y": p.problem.y_shape}
        names = {"fprop": "xw", "dgrad": "yw", "wgrad": "xy"}[text.partition(":")[0]]
        dtype = np.float32 if ":f32:" in text else np.float64
        arrays = [rng.integers(-4, 5, shapes[n]).astype(dtype) for n in names]
        bias = rng.integers(-4, 5, p.problem.K).astype(dtype) if "bias" in text else None
        expected = reference.compute(p.problem, *arrays, bias=bias)
        assert np.array_equal(p(*arrays, bias=bias), expected), (algorithm, text)
from convforge.contract import UnsupportedProblem
from convforge.testing.data import operands
for dtype in ("bf16", "f16", "i8-i8-i32", "i32"):
    if dtype == "f16" and isa() == "plain":
        continue
    text = f"fprop:{dtype}:n2c20h9w11_k40r3s3_st2x1_p1x2"
    p = plan(text, Policy(algorithm="conv_widened.direct"))
    arrays = operands(p.problem, "integers").arrays
    expected = reference.compute(p.problem, *arrays)
    assert np.array_equal(p(*arrays), expected.astype(p(*arrays).dtype)), text
for text in (
    "fprop:max:f32:n2c3h9w20_r3s3_st2x2_p1x1",
    "fprop:avg:f64:n1c3h9w14_r4s4_st3x3",
    "dgrad:avg:f32:n1c3h9w14_r4s4_st2x2_p1x1",
    "dgrad:max:f32:n1c3h9w14_r3s3_p1x1",
    "dgrad:max:f64:n1c3h9w14_r3s3_p1x1",
):
    p = plan(text)
    arrays = operands(p.problem, "integers").arrays
    assert np.array_equal(p(*arrays), reference.compute(p.problem, *arrays)), text
try:
    plan("fprop:bf16:n1c4h5w5_k4r3s3", Policy(algorithm="conv_dot"))
except UnsupportedProblem as refusal:
    assert "dot product" in str(refusal), refusal
else:
    raise AssertionError("conv_dot runs without its instruction")
from convforge.kernels.cpu import _direct
compiled = _direct.gather_multiply.overloads.values()
code = "".join(one.library.get_asm_str() for one in compiled)
assert ("%ymm" in code) == (isa() == "avx2") and "%xmm" in code and "%zmm" not in code
"""
# A tile on this machine's LLVM: the loop of accumulate_run, for another target.
TILE = """
import sys
from llvmlite import binding, ir
from convforge.contract import Machine
from convforge.kernels.cpu import _tile, _tile_shape, _vector
from convforge.runtime import machine
isa, vector_bytes, triple, name = sys.argv[1:]
other = Machine(device="cpu", isa=isa, vector_bytes=int(vector_bytes), registers=32, threads=1,
                l1_bytes=1, l2_bytes=1, l3_bytes=1)
_vector.cpu = lambda: other
binding.initialize_all_targets()
binding.initialize_all_asmprinters()
rows, columns = _tile_shape.choose_shape(other, 4, 8 * 7000, 96 * 1000, 1000)
tile = _tile.TileType("f32", rows, columns)
module = ir.Module("tile")
word = ir.IntType(64)
function = ir.Function(module, ir.FunctionType(ir.VoidType(), [word] * 6), "tile")
a, b, out, count, width, moved = function.args
entry, loop, done = (function.append_basic_block(n) for n in ("entry", "loop", "done"))
builder = ir.IRBuilder(entry)
places = rows * columns
array = ir.ArrayType(tile.vector.llvm, places)
zero = ir.Constant(array, [ir.Constant(tile.vector.llvm, [0.0] * tile.lanes)] * places)
pointers = ir.Constant(ir.ArrayType(word, rows), ir.Undefined)
for i in range(rows):
    place = builder.inttoptr(builder.add(a, ir.Constant(word, 8 * i)), word.as_pointer())
    pointer = builder.add(builder.load(place), moved)
    pointers = builder.insert_value(pointers, pointer, i)
builder.branch(loop)
builder.position_at_end(loop)
step = builder.phi(word)
sums = builder.phi(array)
offset = builder.mul(step, width)
element = _tile.scattered_elements(builder, tile, pointers, offset)
panel = builder.add(b, builder.mul(step, ir.Constant(word, int(vector_bytes) * columns)))
added = _tile._rank1(builder, tile, sums, element, panel)
following = builder.add(step, ir.Constant(word, 1))
step.add_incoming(ir.Constant(word, 0), entry)
step.add_incoming(following, loop)
sums.add_incoming(zero, entry)
sums.add_incoming(added, loop)
builder.cbranch(builder.icmp_signed("<", following, count), loop, done)
builder.position_at_end(done)
for i in range(places):
    at = builder.add(out, ir.Constant(word, int(vector_bytes) * i))
    _tile.store_vector(builder, builder.extract_value(added, i), at, 4)
builder.ret_void()
target = binding.Target.from_triple(triple)
chosen = target.create_target_machine(cpu=name, opt=3)
parsed = binding.parse_assembly(str(module).replace(str(module.triple) or "\\0", ""))
parsed.triple = triple
passes = binding.create_pass_builder(chosen, binding.PipelineTuningOptions(3))
passes.getModulePassManager().run(parsed, passes)
print(rows, columns)
print(chosen.emit_assembly(parsed))
"""


def python(code: str, *arguments: str, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.skipif(platform.machine() != "x86_64", reason="targets of x86-64")
@pytest.mark.parametrize("isa", TARGETS)
def test_narrower_targets_are_exact_here(isa, tmp_path):
    python(RUN, isa, **TARGETS[isa], CONVFORGE_CACHE_DIR=str(tmp_path))


@pytest.mark.parametrize(
    ("isa", "vector_bytes", "triple", "name", "product", "spill"),
    [
        ("neon", "16", "aarch64-unknown-linux-gnu", "neoverse-n1", "fmla", r"(str|stp|stur)\s+q"),
        ("avx512", "64", "x86_64-unknown-linux-gnu", "znver4", "vfmadd", r"vmov\w+\s+%zmm"),
    ],
)
def test_the_tile_stays_in_registers(isa, vector_bytes, triple, name, product, spill):
    """The loop is one instruction a product, two or so a row, and no sum leaves its register."""
    text = python(TILE, isa, vector_bytes, triple, name)
    rows, columns = (int(n) for n in text.splitlines()[0].split())
    bodies = re.split(r"\n\.LBB\w+:", text)
    body = max(bodies, key=lambda b: b.count(product))
    body = re.split(r"\n\tb\.\w+|\n\tj\w+", body)[0]
    instructions = re.findall(r"\n\t[a-z].*", body)
    assert sum(product in line for line in instructions) == rows * columns
    assert not re.search(spill, body), body
    assert len(instructions) <= rows * columns + 2 * rows + columns + 5, body
