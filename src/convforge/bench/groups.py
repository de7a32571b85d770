"""Groups of layers: one command each, of less than ten minutes.

A group has parts; a part is a table for each number of threads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from convforge.bench import peers as rivals
from convforge.bench import step
from convforge.bench.measure import Ours, Table, against_itself, tabulate
from convforge.bench.ours import Convforge
from convforge.bench.rows import Row, Runner
from convforge.bench.suites import Layer
from convforge.bench.timer import Method

MINUTES = 9.0
"""Nothing is begun after this much of a group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Layers measured alike.

    Attributes:
        name: Behind the group's, for files. title: For people.
        layers: What is measured. rows: How.
        peers: Those that may take part: names of :data:`convforge.bench.peers.PEERS`.
        training: A step of training instead of the forward pass.
    """

    name: str
    title: str
    layers: tuple[Layer, ...]
    rows: tuple[Row, ...]
    peers: tuple[str, ...]
    training: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """What one command measures.

    Attributes:
        name: For the command line. title: For people.
        about: Where the layers come from, and what was left out.
        parts: Made when wanted: they read shape files.
        environment: Variables that the process must have been started with.
    """

    name: str
    title: str
    about: str
    parts: Callable[[], tuple[Part, ...]]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Results of a group.

    Attributes:
        itself: The harness on identical code, one ratio a number of threads; should be 1.
        tables: One for each part and number of threads. seconds: It took.
    """

    itself: dict[int, float]
    tables: tuple[Table, ...]
    seconds: float


def run(
    group: Group,
    *,
    peers: Sequence[str],
    threads: Sequence[int],
    method: Method,
    before_each: Callable[[str], None] = lambda label: None,
    finished: Callable[[Table], None] = lambda table: None,
    minutes: float = MINUTES,
) -> Run:
    """Measure a group against those of the libraries ``peers`` that its parts allow."""
    begun = time.monotonic()
    until = begun + 60 * minutes
    parts = group.parts()
    itself = {}
    for count in threads:
        before_each(f"the harness against itself, {count} threads")
        itself[count] = _itself(parts[0], peers, count, method)
    tables = []
    for part in parts:
        ours, others = contestants(part, peers)
        for count in threads:
            table = tabulate(
                f"{group.name}_{part.name}",
                part.title,
                part.layers,
                ours=ours,
                peers=others,
                rows=part.rows,
                threads=count,
                method=method,
                before_each=before_each,
                until=until,
            )
            finished(table)
            tables.append(table)
    return Run(itself=itself, tables=tuple(tables), seconds=time.monotonic() - begun)


def contestants(part: Part, libraries: Iterable[str]) -> tuple[Ours, list[Runner]]:
    """Ourselves and those of a part's peers that are wanted and installed."""
    wanted = set(libraries)
    runners, _ = rivals.load(name for name in part.peers if rivals.family(name) in wanted)
    if part.training:
        return step.OurStep(Convforge()), [step.Step(runner) for runner in runners]
    return Convforge(), runners


def _itself(part: Part, libraries: Sequence[str], count: int, method: Method) -> float:
    """A layer of middling size against itself, the peers in between."""
    ours, others = contestants(part, libraries)
    for runner in (ours, *others):
        runner.set_threads(count)
    by_size = sorted(part.layers, key=lambda layer: layer.problem.flops)
    return against_itself(by_size[len(by_size) // 2], ours, others, method)
