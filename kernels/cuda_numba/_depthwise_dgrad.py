"""The gradient of a depthwise layer's image: a thread makes a column of it, whatever the stride.

Pixel h meets row r of the filter where ``h + pad - r`` is a multiple of the stride. A strip begins
where ``h + pad`` is one, so that which rows meet which is known when the kernel is compiled.
"""

from __future__ import annotations

from numba import cuda

from convforge.contract import Cost, KernelRef, Step
from convforge.kernels.cuda_numba._element import LOAD_COST, divider, loader, number_type
from convforge.kernels.cuda_numba._epilogue import finisher, post_code
from convforge.kernels.cuda_numba._geometry import named, steps, three, three_axes
from convforge.kernels.cuda_numba._rows import STRIP, THREADS, RowsConfig
from convforge.problem import ConvProblem, Order
from convforge.runtime.cuda.jit import Constants, kernel

SPREAD = Constants(
    "Spread",
    "strips lead base channels channels_last multiplier strips_a_column post accumulate "
    "H W x_n x_c x_h x_w P Q y_n y_k y_p y_q S w_k w_r w_s stride_w dilation_w pad_w",
)


def strip_of(stride: int) -> int:
    """Pixels of a thread, whole strides."""
    return max(STRIP // stride, 1) * stride


@kernel(SPREAD, threads=THREADS, registers={"f32": 80, "f64": 120})
def conv_depthwise_spread(config):
    """Pixels below one another: every loaded dy goes to those that it had come from."""
    y_dtype, w_dtype, x_dtype, *_ = config.pointers
    index, acc = number_type(config.index), number_type(config.acc)
    load_y, load_w = loader(y_dtype, config.acc), loader(w_dtype, config.acc)
    finish, divide = finisher(x_dtype, config.acc), divider(config.index)
    R, stride_h = config.R, config.stride_h
    strip_rows = strip_of(stride_h)
    above = (R - 1) // stride_h
    met = above + (strip_rows - 1) // stride_h + 1
    strides = strip_rows // stride_h

    def conv_depthwise_spread(g, y, weight, x, bias, residual):
        i = index(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
        if i >= g.strips:
            return
        rest, c = i, index(0)
        if g.channels_last != 0:
            rest, c = divide(rest, g.channels)
        rest, w = divide(rest, g.W)
        n, strip = divide(rest, g.strips_a_column)
        if g.channels_last == 0:
            n, c = divide(n, g.channels)
        first_h = index(strip * strip_rows - g.lead)
        first_p = index(g.base + strip * strides - above)

        sums = cuda.local.array(strip_rows, acc)
        factors = cuda.local.array(R, acc)
        for j in range(strip_rows):
            sums[j] = acc(0)
        for k in range(c * g.multiplier, c * g.multiplier + g.multiplier):
            plane = index(n * g.y_n + k * g.y_k)
            for s in range(g.S):
                shift = index(w + g.pad_w - s * g.dilation_w)
                q, apart = shift, index(0)
                if g.stride_w > 1:
                    q, apart = divide(max(shift, index(0)), g.stride_w)
                if shift >= 0 and apart == 0 and q < g.Q:
                    filters = index(k * g.w_k + s * g.w_s)
                    for r in range(R):
                        factors[r] = load_w(weight, index(filters + r * g.w_r))
                    column = index(plane + q * g.y_q)
                    for row in range(met):
                        p = index(first_p + row)
                        value = acc(0)
                        if p >= 0 and p < g.P:
                            value = load_y(y, index(column + p * g.y_p))
                        for j in range(strip_rows):
                            r = j - (row - above) * stride_h
                            if r >= 0 and r < R:
                                sums[j] += value * factors[r]

        finished = cuda.shared.array((strip_rows, THREADS), acc)
        for j in range(strip_rows):
            finished[j, cuda.threadIdx.x] = sums[j]
        place = index(n * g.x_n + c * g.x_c + w * g.x_w)
        first_row = max(index(0), index(-first_h))
        for j in range(first_row, min(index(strip_rows), index(g.H - first_h))):
            at = index(place + (first_h + j) * g.x_h)
            total = finished[j, cuda.threadIdx.x]
            finish(total, g.post, g.accumulate, x, at, bias, c, residual)

    return conv_depthwise_spread


def spread_step(problem: ConvProblem, config: RowsConfig) -> Step:
    """The launch that writes dx."""
    _, rows, columns = three_axes(problem.axes)
    x_n, x_c, _, x_h, x_w = steps(problem.x.order, problem.N, problem.C, problem.size)
    y_n, y_k, _, y_p, y_q = steps(problem.y.order, problem.N, problem.K, problem.out)
    w_k, _, _, w_r, w_s = steps(problem.w.order, problem.K, 1, problem.filter)
    strip_rows = strip_of(rows.stride)
    lead = rows.pad_lo % rows.stride
    _, H, W = three(problem.size)
    _, P, Q = three(problem.out)
    strips_a_column = -(-(H + lead) // strip_rows)
    strips = problem.N * problem.C * strips_a_column * W
    constants = SPREAD.pack(
        config.index,
        strips=strips,
        lead=lead,
        base=rows.pad_lo // rows.stride,
        channels=problem.C,
        channels_last=problem.x.order is Order.CHANNELS_LAST,
        multiplier=problem.group_K,
        strips_a_column=strips_a_column,
        post=post_code(problem),
        accumulate=problem.accumulate,
        S=columns.filter,
        stride_w=columns.stride,
        dilation_w=columns.dilation,
        pad_w=columns.pad_lo,
        **named("H W P Q", (H, W, P, Q)),
        **named("x_n x_c x_h x_w", (x_n, x_c, x_h, x_w)),
        **named("y_n y_k y_p y_q", (y_n, y_k, y_p, y_q)),
        **named("w_k w_r w_s", (w_k, w_r, w_s)),
    )
    # A multiprocessor loads a quarter of what it multiplies.
    loads = LOAD_COST * ((strip_rows + config.R - 2) // rows.stride + 1 + config.R)
    products = strip_rows * config.R / rows.stride
    return Step(
        name="multiply",
        kernel=KernelRef(conv_depthwise_spread, config),
        operands=(
            "y",
            "w",
            "x",
            *(op if op in problem.post else "" for op in ("bias", "residual")),
        ),
        constants=constants,
        tasks=-(-strips // THREADS),
        cost=Cost(flops=round(problem.flops * max(1, loads / products)), bytes=problem.bytes),
    )
