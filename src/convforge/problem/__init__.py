"""What is computed: convolution and pooling problems, and their one spelling.

A problem is a frozen description with no data in it. Every derived size, flop count and
byte count of the package is a property defined here, and ``str(problem)`` is the only
spelling of a problem in tests, benches, logs and errors; :func:`parse` reads it back::

    fprop:f32:n8c64h56w56_k64r3s3_p1x1
    wgrad:f32:nhwc:n16c256h14w14_k256r3s3_st2x2_p0:1x0:1_d2x2_g4
    fprop:f32:n1c64h56w56_k256r1s1+bias+residual+relu
    fprop:max:f32:nhwc:n1c64h112w112_r3s3_st2x2_p1x1+indices

The operation is cross-correlation, as in every deep-learning library. Defaults are left out
of the spelling. This room needs the standard library only.
"""

from convforge.problem.conv import ConvProblem
from convforge.problem.geometry import Axis, Operand
from convforge.problem.parse import Problem, parse
from convforge.problem.pool import PoolProblem
from convforge.problem.words import Direction, DType, Order, PadMode, PoolKind, PostOp

__all__ = [
    "Axis",
    "ConvProblem",
    "DType",
    "Direction",
    "Operand",
    "Order",
    "PadMode",
    "PoolKind",
    "PoolProblem",
    "PostOp",
    "Problem",
    "parse",
]
