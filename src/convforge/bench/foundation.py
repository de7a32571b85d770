"""Everything the foundation promises, measured in one go: ``convforge bench foundation``.

Dense layers forward in both memory orders and backward in NHWC, on each number of threads; the
cost of a call; the cost of a start; the harness against itself before anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from convforge.bench import startup as startups
from convforge.bench import suites
from convforge.bench.measure import Table, against_itself, tabulate
from convforge.bench.ours import Convforge
from convforge.bench.rows import Row, Runner
from convforge.bench.suites import Layer
from convforge.bench.timer import STANDARD, Method
from convforge.plan import Policy
from convforge.problem import Direction, Order

_ITSELF = 0.03
"""How far from 1 the harness may measure identical code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Foundation:
    """Results of one run.

    Attributes:
        itself: The harness on identical code, one ratio a number of threads; should be 1.
        tables: The layers. tiny: The cost of a call. startup: The cost of a start.
    """

    itself: dict[int, float]
    tables: tuple[Table, ...]
    tiny: Table
    startup: startups.Startup

    @property
    def trustworthy(self) -> bool:
        """Identical code measured the same."""
        return trusted(self.itself)


def trusted(itself: Mapping[int, float]) -> bool:
    """Whether the harness on identical code measured 1, or nearly, on each number of threads."""
    return all(abs(ratio - 1) <= _ITSELF for ratio in itself.values())


def run(
    *,
    peers: Sequence[Runner],
    threads: Sequence[int],
    rows: Sequence[Row] = tuple(Row),
    method: Method = STANDARD,
    before_each: Callable[[str], None] = lambda label: None,
    finished: Callable[[Table], None] = lambda table: None,
) -> Foundation:
    """Measure it all; ``finished`` gets each table as soon as it is there."""
    direct = Convforge(Policy(algorithm="conv_direct"))
    best = Convforge()
    torch = [peer for peer in peers if peer.name == "torch"]
    layers = suites.load(suites.FOUNDATION)
    before_each("fresh interpreters")
    startup = startups.measure(rounds=method.rounds)
    everybody: list[Runner] = [*torch, best, *(peer for peer in peers if peer not in torch)]
    itself = {}
    for count in threads:
        before_each(f"the harness against itself, {count} threads")
        for runner in everybody:
            runner.set_threads(count)
        itself[count] = against_itself(layers[2], everybody[0], everybody[1:], method)
    nchw = suites.in_order(layers, Order.CHANNELS_FIRST)
    dgrad, wgrad = (suites.gradients(layers, d) for d in (Direction.DGRAD, Direction.WGRAD))
    tables = []
    for name, title, problems, ours, rivals, wanted in (
        ("fprop_nhwc", "forward NHWC", layers, direct, peers, rows),
        ("fprop_nchw", "forward NCHW", nchw, best, torch, (Row.FUNCTIONAL,)),
        ("dgrad_nhwc", "dgrad NHWC", dgrad, best, torch, (Row.WARM,)),
        ("wgrad_nhwc", "wgrad NHWC", wgrad, best, torch, (Row.WARM,)),
    ):
        for count in threads:
            table = tabulate(
                name,
                title,
                problems,
                ours=ours,
                peers=rivals,
                rows=wanted,
                threads=count,
                method=method,
                before_each=before_each,
            )
            finished(table)
            tables.append(table)
    tiny = tabulate(
        "tiny",
        "cost of a call",
        [Layer("1x1x4x4", suites.tiny())],
        ours=best,
        peers=peers,
        rows=[Row.WARM, Row.FUNCTIONAL],
        threads=max(threads),
        method=replace(method, rounds=2 * method.rounds),
        before_each=before_each,
    )
    return Foundation(itself=itself, tables=tuple(tables), tiny=tiny, startup=startup)
