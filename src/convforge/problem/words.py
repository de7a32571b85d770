"""The enumerations that problems are made of, and the letters of each rank."""

from __future__ import annotations

from enum import StrEnum

SIZE_NAMES = {1: "w", 2: "hw", 3: "dhw"}
FILTER_NAMES = {1: "s", 2: "rs", 3: "trs"}


class Direction(StrEnum):
    """Which of x, w, y is written; all three keep their names in every direction."""

    FPROP = "fprop"
    DGRAD = "dgrad"
    WGRAD = "wgrad"


class DType(StrEnum):
    """Element types, in the short spelling of problem strings."""

    F16 = "f16"
    BF16 = "bf16"
    F32 = "f32"
    F64 = "f64"
    C64 = "c64"
    C128 = "c128"
    I8 = "i8"
    U8 = "u8"
    I16 = "i16"
    I32 = "i32"
    I64 = "i64"

    @property
    def itemsize(self) -> int:
        """Bytes per element."""
        bits = int("".join(c for c in self.value if c.isdigit()))
        return bits // 8

    @property
    def numpy_name(self) -> str:
        """The name NumPy (or ml_dtypes) gives this type, such as ``float32``."""
        return _NUMPY_NAMES[self]

    @property
    def eps(self) -> float:
        """Distance from 1 to the next representable number; 0 for integers."""
        return _EPS.get(self, 0.0)

    @property
    def accumulator(self) -> DType:
        """The type sums are kept in unless a problem says otherwise."""
        return _ACCUMULATORS.get(self, self)


_NUMPY_NAMES = {
    DType.F16: "float16",
    DType.BF16: "bfloat16",
    DType.F32: "float32",
    DType.F64: "float64",
    DType.C64: "complex64",
    DType.C128: "complex128",
    DType.I8: "int8",
    DType.U8: "uint8",
    DType.I16: "int16",
    DType.I32: "int32",
    DType.I64: "int64",
}
_EPS = {
    DType.F16: 2.0**-10,
    DType.BF16: 2.0**-7,
    DType.F32: 2.0**-23,
    DType.C64: 2.0**-23,
    DType.F64: 2.0**-52,
    DType.C128: 2.0**-52,
}
_ACCUMULATORS = {
    DType.F16: DType.F32,
    DType.BF16: DType.F32,
    DType.I8: DType.I32,
    DType.U8: DType.I32,
    DType.I16: DType.I32,
    DType.I32: DType.I64,
}


class PadMode(StrEnum):
    """What stands outside the image."""

    ZEROS = "zeros"
    REFLECT = "reflect"
    REPLICATE = "replicate"
    CIRCULAR = "circular"


class PoolKind(StrEnum):
    """How a pooling window is reduced."""

    MAX = "max"
    AVG = "avg"


class PostOp(StrEnum):
    """Applied to the convolution's result, in the order listed by the problem."""

    BIAS = "bias"
    RESIDUAL = "residual"
    RELU = "relu"
    RELU6 = "relu6"
    SILU = "silu"
    GELU = "gelu"
    GELU_TANH = "gelu_tanh"

    @property
    def reads_operand(self) -> bool:
        """True where the op brings an array of its own (bias, residual)."""
        return self in (PostOp.BIAS, PostOp.RESIDUAL)


class Order(StrEnum):
    """Memory order of an operand: channels before or after the spatial axes."""

    CHANNELS_FIRST = "first"
    CHANNELS_LAST = "last"

    def image(self, rank: int) -> str:
        """Spelling for images: ``nchw``, ``nhwc``, ``ncw``, ``ndhwc`` …."""
        sizes = SIZE_NAMES[rank]
        return f"nc{sizes}" if self is Order.CHANNELS_FIRST else f"n{sizes}c"

    def filters(self, rank: int) -> str:
        """Spelling for weights: ``kcrs``, ``krsc``, ``kcs``, ``ktrsc`` …."""
        sizes = FILTER_NAMES[rank]
        return f"kc{sizes}" if self is Order.CHANNELS_FIRST else f"k{sizes}c"

    def arrange(self, lead: int, channels: int, spatial: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of an array in this order."""
        if self is Order.CHANNELS_FIRST:
            return (lead, channels, *spatial)
        return (lead, *spatial, channels)
