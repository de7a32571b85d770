"""The layer lists against what the networks' papers and public implementations state."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files
from itertools import product
from math import prod

import pytest

from convforge.problem import ConvProblem, Direction, PoolProblem, parse


@dataclass(frozen=True)
class Row:
    problem: ConvProblem | PoolProblem
    count: int

    @property
    def reads(self) -> tuple[int, tuple[int, ...]]:
        """Channels and extents that go in; a transposed convolution reads what fprop writes."""
        p = self.problem
        return (p.K, p.out) if p.direction is Direction.DGRAD else (p.C, p.size)

    @property
    def writes(self) -> tuple[int, tuple[int, ...]]:
        p = self.problem
        return (p.C, p.size) if p.direction is Direction.DGRAD else (p.K, p.out)


@dataclass(frozen=True)
class Published:
    """What a network's authors say of it.

    Attributes:
        layers: Convolutions.
        mega_macs: Millions of multiply-adds of the whole network.
        parameters: Of the whole network: every convolution's weights, ``per_channel`` more for
            each of its output channels (1: a bias, 2: scale and shift of a normalisation), and
            the fully connected ``head``, which the lists leave out.
    """

    layers: int
    mega_macs: float | None = None
    parameters: int | None = None
    per_channel: int = 2
    head: int = 0


VGG_HEAD = (512 * 7 * 7 + 1) * 4096 + (4096 + 1) * 4096 + (4096 + 1) * 1000
# Norms, and the scales behind the projections, which are no convolution's.
CONVNEXT_HEAD = (768 + 1) * 1000 + 22_944
NETWORKS = {
    "convnext_t": Published(58, 4_470, 28_589_128, per_channel=1, head=CONVNEXT_HEAD),
    "mobilenet_v1": Published(27, 569, 4_231_976, head=1025 * 1000),
    "mobilenet_v2": Published(52, 300, 3_504_872, head=1281 * 1000),
    "replknet31b": Published(130, 15_300, head=1025 * 1000),
    "resnet50_v1_5": Published(53, 4_100, 25_557_032, head=2049 * 1000),
    "resnext101_32x4d": Published(104, 8_000, 44_177_704, head=2049 * 1000),
    "unet2d": Published(23),
    # 19,069,955 in the paper, with biases everywhere but in the up-convolutions.
    "unet3d": Published(18, parameters=19_069_955 + 512 + 256 + 128, per_channel=1),
    "vgg19": Published(16, 19_600, 143_667_240, per_channel=1, head=VGG_HEAD),
    "wavenet": Published(203),
}
POOLINGS = {"googlenet_pools": 16, "resnet50_pools": 2, "vgg19_pools": 5}
LISTS = [*NETWORKS, *POOLINGS]
FOLDER = files("convforge.bench") / "shapes"


def lines(network: str) -> list[str]:
    text = (FOLDER / f"{network}.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def rows(network: str) -> list[Row]:
    found = []
    for line in lines(network):
        spelling, _, label = line.partition("#")
        count = re.search(r"\(x(\d+)\)$", label)
        found.append(Row(parse(spelling), int(count[1]) if count else 1))
    return found


def test_every_list_is_judged():
    names = {entry.name for entry in FOLDER.iterdir()}
    assert names == {f"{name}.txt" for name in LISTS}


@pytest.mark.parametrize("network", LISTS)
def test_the_paper_is_named_on_top(network):
    head = (FOLDER / f"{network}.txt").read_text(encoding="utf-8").partition("\n\n")[0]
    assert all(line.startswith("# ") for line in head.splitlines())
    assert re.search(r"arXiv:\d{4}\.\d{4,5}", head)


@pytest.mark.parametrize("network", LISTS)
def test_lines_are_canonical_distinct_labelled_and_of_one_image(network):
    spellings = [line.partition("#")[0].strip() for line in lines(network)]
    assert len(set(spellings)) == len(spellings)
    for line, spelling in zip(lines(network), spellings, strict=True):
        assert str(parse(spelling)) == spelling
        assert parse(spelling).N == 1
        assert line.partition("#")[2].strip(), line


@pytest.mark.parametrize("network", NETWORKS)
def test_number_of_layers(network):
    assert sum(row.count for row in rows(network)) == NETWORKS[network].layers


@pytest.mark.parametrize("network", POOLINGS)
def test_number_of_poolings(network):
    assert sum(row.count for row in rows(network)) == POOLINGS[network]
    assert all(isinstance(row.problem, PoolProblem) for row in rows(network))


def test_poolings_halve_or_keep_or_average_everything():
    for network in POOLINGS:
        for row in rows(network):
            (h, _), (p, _) = row.problem.size, row.problem.out
            auxiliary = (h, p) == (14, 4)  # 5x5 with stride 3, before GoogLeNet's extra classifiers
            assert auxiliary or p in (h // 2, h, 1), row.problem


@pytest.mark.parametrize("network", [n for n, said in NETWORKS.items() if said.mega_macs])
def test_multiply_adds_are_the_published_ones(network):
    macs = sum(row.count * row.problem.flops // 2 for row in rows(network))
    macs += NETWORKS[network].head
    assert macs / 1e6 == pytest.approx(NETWORKS[network].mega_macs, rel=0.005)


@pytest.mark.parametrize("network", [n for n, said in NETWORKS.items() if said.parameters])
def test_parameters_are_the_published_ones(network):
    said = NETWORKS[network]
    weights = sum(row.count * prod(row.problem.w_shape) for row in rows(network))
    channels = sum(row.count * row.writes[0] for row in rows(network))
    assert weights + said.per_channel * channels + said.head == said.parameters


@pytest.mark.parametrize("network", NETWORKS)
def test_every_input_is_some_earlier_output(network):
    """Channels as written earlier, or two outputs concatenated; extents equal, or pooled."""
    first, *others = rows(network)
    written = {first.writes}
    for row in others:
        channels = {c for c, _ in written}
        concatenated = {a + b for a, b in product(channels, repeat=2)}
        extents = {e for _, e in written}
        pooled = {tuple(n // 2 for n in e) for e in extents}
        assert row.reads[0] in channels | concatenated, row.problem
        assert row.reads[1] in extents | pooled, row.problem
        written.add(row.writes)


def test_unet_tiles_shrink_to_the_published_results():
    assert rows("unet2d")[-1].writes == (2, (388, 388))
    assert rows("unet3d")[-1].writes == (3, (28, 44, 44))


def test_wavenet_stack_sees_1024_samples():
    stack = [row.problem for row in rows("wavenet") if row.count == 10]
    assert 1 + sum(p.axes[0].extent - 1 for p in stack) == 1024
    assert all(p.out == p.size and p.axes[0].pad_hi == 0 for p in stack)
