"""Operators on arrays: each turns a call into a problem and a plan, and runs it.

Nothing here records gradients; :mod:`convforge.functional` builds on this room for that.
"""

from convforge.ops.arguments import (
    ConvArguments,
    PoolArguments,
    adaptive_arguments,
    conv_arguments,
    pool_arguments,
)
from convforge.ops.convolution import (
    ConvCall,
    Prepare,
    conv,
    conv_call,
    conv_dbias,
    conv_dgrad,
    conv_wgrad,
)
from convforge.ops.pooling import PoolCall, pool, pool_call

__all__ = [
    "ConvArguments",
    "ConvCall",
    "PoolArguments",
    "PoolCall",
    "Prepare",
    "adaptive_arguments",
    "conv",
    "conv_arguments",
    "conv_call",
    "conv_dbias",
    "conv_dgrad",
    "conv_wgrad",
    "pool",
    "pool_arguments",
    "pool_call",
]
