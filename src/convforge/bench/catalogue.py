"""The groups: which layers of which networks, in which rows, against whom.

Layers come from ``shapes/``; a problem that several networks have stands once. Those that no
network listed there has are spelled here, each with where it is from. Images are NHWC where a title
does not say otherwise, which suits convforge and costs PyTorch nothing: it is measured in both
memory orders, and the better counts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from convforge.bench import avx2, step
from convforge.bench.groups import Group, Part
from convforge.bench.layers import (
    backward,
    batch,
    first,
    forward,
    has_filter,
    last,
    of_dtype,
    of_size,
    pick,
    spelled,
    stride,
)
from convforge.bench.rows import Row
from convforge.bench.suites import Layer
from convforge.problem import ConvProblem, DType, parse

TORCH = ("torch-nhwc", "torch-nchw")
ENGINES = ("onnxruntime", "openvino", "ncnn", "mnn")
EVERYBODY = (*TORCH, *ENGINES)

_ALL = (Row.FUNCTIONAL, Row.WARM, Row.COLD)
_NO_COLD = (Row.FUNCTIONAL, Row.WARM)
_BATCH = 16

GOOGLENET_5X5 = "fprop:f32:n1c32h28w28_k96r5s5_p2x2"
"""Inception 3b of GoogLeNet (arXiv:1409.4842, table 1)."""
DILATED = (
    "fprop:f32:n1c256h28w28_k256r3s3_p2x2_d2x2",
    "fprop:f32:n1c256h28w28_k256r3s3_p4x4_d4x4",
)
"""Backbones that dilate instead of striding, as Yu, Koltun, Funkhouser 2017 (arXiv:1705.09472)."""
MOBILENET_V3_5X5 = "fprop:f32:n1c72h28w28_k72r5s5_p2x2_g72"
"""The 5x5 of MobileNet v3 (Howard et al. 2019, arXiv:1905.02244, table 1) behind its stride."""
HEADS = {
    "fprop:f32:n1c25088h1w1_k4096r1s1": "VGG fc6",
    "fprop:f32:n1c4096h1w1_k4096r1s1": "VGG fc7",
    "fprop:f32:n1c4096h1w1_k1000r1s1": "VGG fc8",
    "fprop:f32:n1c768h1w1_k1000r1s1": "ConvNeXt-T head",
}
SMALL = (
    "fprop:f32:n1c1h4w4_k1r3s3_p1x1",
    "fprop:f32:n1c16h14w14_k16r3s3_p1x1",
    "fprop:f32:n1c768h1w1_k1000r1s1",
)
"""Next to no work, a layer of a digit classifier, the head of ConvNeXt-T."""


def _usual(
    layers: list[Layer],
    many: list[Layer] | None = None,
    few: list[Layer] | None = None,
    peers: tuple[str, ...] = EVERYBODY,
) -> list[Part]:
    """One image; ``many`` in batches; ``few`` channels first."""
    one = Part(name="batch1", title="batch 1", layers=last(layers), rows=_ALL, peers=peers)
    made = [one]
    if many is not None:
        made.append(
            Part(
                name="batch16",
                title=f"batch {_BATCH}",
                layers=last(batch(many, _BATCH)),
                rows=_NO_COLD,
                peers=peers,
            )
        )
    if few is not None:
        made.append(
            Part(name="nchw", title="NCHW, batch 1", layers=first(few), rows=_NO_COLD, peers=peers)
        )
    return made


def _conv3x3() -> tuple[Part, ...]:
    def wide(problem: ConvProblem) -> bool:
        return (
            has_filter(problem, 3)
            and problem.rank == 2
            and problem.groups == 1
            and stride(problem) == 1
            and min(problem.C, problem.K) >= 64
            and min(problem.out) >= 14
        )

    layers = pick("resnet50_v1_5", "vgg19", where=forward(wide))
    levels = of_size(
        pick("unet2d", where=forward(wide)),
        "3x3 128→128 @282",
        "3x3 256→256 @138",
        "3x3 512→512 @66",
        "3x3 1024→1024 @30",
        "3x3 1024→512 @56",
    )
    many = of_size(
        layers,
        "3x3 64→64 @56",
        "3x3 128→128 @28",
        "3x3 256→256 @14",
        "3x3 128→256 @56",
        "3x3 512→512 @28",
        "3x3 512→512 @14",
    )
    return tuple(_usual([*layers, *levels], many, many[:3]))


def _pointwise() -> tuple[Part, ...]:
    pointwise = forward(lambda problem: has_filter(problem, 1) and problem.rank == 2)
    resnet = pick("resnet50_v1_5", where=pointwise)
    mobile = of_size(
        pick("mobilenet_v1", "mobilenet_v2", where=pointwise),
        "1x1 32→64 @112",
        "1x1 64→128 @56",
        "1x1 128→128 @56",
        "1x1 256→256 @28",
        "1x1 512→512 @14",
        "1x1 1024→1024 @7",
        "1x1 16→96 @112",
        "1x1 96→24 @56",
        "1x1 32→192 @28",
        "1x1 384→96 @14",
        "1x1 960→320 @7",
    )
    many = of_size(
        [*resnet, *mobile],
        "1x1 64→256 @56",
        "1x1 256→64 @56",
        "1x1/2 256→512 @56",
        "1x1 512→128 @28",
        "1x1 1024→256 @14",
        "1x1 2048→512 @7",
        "1x1 32→64 @112",
        "1x1 512→512 @14",
        "1x1 32→192 @28",
        "1x1 960→320 @7",
    )
    return tuple(_usual([*resnet, *mobile], many, many[::2]))


def _dense() -> tuple[Part, ...]:
    resnet = pick(
        "resnet50_v1_5",
        where=forward(
            lambda problem: (
                not has_filter(problem, 1) and (stride(problem) > 1 or max(problem.size) == 7)
            )
        ),
    )
    layers = [*resnet, *spelled(GOOGLENET_5X5, *DILATED)]
    return tuple(_usual(layers, layers, layers))


def _depthwise() -> tuple[Part, ...]:
    def depthwise(problem: ConvProblem) -> bool:
        return 1 < problem.groups == problem.C

    small = [
        *pick("mobilenet_v1", where=forward(depthwise)),
        *spelled(MOBILENET_V3_5X5),
        *pick("convnext_t", where=forward(depthwise)),
    ]
    large = pick("replknet31b", where=forward(lambda p: depthwise(p) and max(p.filter) > 7))
    few = of_size(
        small,
        "3x3 128→128 depthwise @56",
        "3x3/2 128→128 depthwise @56",
        "5x5 72→72 depthwise @28",
        "7x7 192→192 depthwise @28",
    )
    return (
        *_usual(small, small, few),
        Part(
            name="large",
            title="filters of 13 to 31, batch 1",
            layers=last(large),
            rows=_ALL,
            peers=EVERYBODY,
        ),
    )


def _grouped() -> tuple[Part, ...]:
    layers = pick("resnext101_32x4d", where=forward(lambda problem: problem.groups > 1))
    return tuple(_usual(layers, layers, layers[::2]))


def _one_axis() -> tuple[Part, ...]:
    layers = pick("wavenet")
    many = [layer for i, layer in enumerate(layers) if i % 3 == 1]
    return tuple(_usual(layers, many, many))


def _three_axes() -> tuple[Part, ...]:
    layers = pick("unet3d", where=forward(lambda problem: problem.flops < 20e9))
    few = sorted(layers, key=lambda layer: layer.problem.flops)[1:4]
    return tuple(_usual(layers, None, few, (*TORCH, "onnxruntime", "openvino")))


def _training() -> tuple[Part, ...]:
    widening = of_size(
        pick("vgg19"),
        "3x3 3→64 @224",
        "3x3 64→128 @112",
        "3x3 128→256 @56",
        "3x3 256→512 @28",
        "3x3 512→512 @14",
    )
    return tuple(
        Part(
            name=name,
            title=f"{title}: fprop, dgrad and wgrad, batch {_BATCH}",
            layers=last(batch(step.layers(layers), _BATCH)),
            rows=(Row.PLAIN,),
            peers=TORCH,
            training=True,
        )
        for name, title, layers in (
            ("resnet50", "ResNet-50", pick("resnet50_v1_5")),
            ("vgg19", "VGG-19", widening),
        )
    )


def _typed(dtype: DType) -> Callable[[], tuple[Part, ...]]:
    def parts() -> tuple[Part, ...]:
        layers = of_dtype(pick("resnet50_v1_5"), dtype)
        return (
            Part(
                name="resnet50",
                title=f"ResNet-50 in {dtype.numpy_name}, batch 1",
                layers=last(layers),
                rows=_NO_COLD,
                peers=TORCH,
            ),
        )

    return parts


def _pooling() -> tuple[Part, ...]:
    layers = pick("resnet50_pools", "vgg19_pools", "googlenet_pools")
    few = of_size(
        layers,
        "3x3/2 max 64 @112",
        "7x7 avg 2048 @7",
        "2x2/2 max 128 @112",
        "2x2/2 max 512 @14",
        "3x3/2 max 192 @56",
        "3x3 max 480 @14",
        "5x5/3 avg 512 @14",
    )
    many = batch(few, _BATCH)
    return tuple(
        Part(name=name, title=title, layers=order(made), rows=rows, peers=peers)
        for name, title, made, order, rows, peers in (
            ("nhwc", "forward, batch 1", layers, last, _NO_COLD, EVERYBODY),
            ("nchw", "forward, NCHW, batch 1", layers, first, _NO_COLD, EVERYBODY),
            ("backward", "backward, batch 1", backward(layers), last, (Row.WARM,), TORCH),
            (
                "backward_nchw",
                "backward, NCHW, batch 1",
                backward(layers),
                first,
                (Row.WARM,),
                TORCH,
            ),
            ("nhwc16", f"forward, batch {_BATCH}", many, last, (Row.WARM,), TORCH),
            ("nchw16", f"forward, NCHW, batch {_BATCH}", many, first, (Row.WARM,), TORCH),
            ("backward16", f"backward, batch {_BATCH}", backward(many), last, (Row.WARM,), TORCH),
            (
                "backward_nchw16",
                f"backward, NCHW, batch {_BATCH}",
                backward(many),
                first,
                (Row.WARM,),
                TORCH,
            ),
        )
    )


def _linear() -> tuple[Part, ...]:
    blocks = pick(
        "convnext_t", where=forward(lambda problem: has_filter(problem, 1) and problem.groups == 1)
    )
    heads = [Layer(label, parse(spelling)) for spelling, label in HEADS.items()]
    peers = ("torch-linear",)
    return tuple(_usual([*blocks, *heads], [*blocks[::2], *heads], None, peers))


def _tiny() -> tuple[Part, ...]:
    networks = ("resnet50_v1_5", "mobilenet_v1", "mobilenet_v2", "convnext_t")
    layers = [
        *spelled(*SMALL),
        *pick(*networks, where=forward(lambda problem: problem.flops < 5e6)),
    ]
    return (
        Part(
            name="batch1",
            title="under 5 MFLOP, batch 1",
            layers=last(layers),
            rows=_NO_COLD,
            peers=EVERYBODY,
        ),
    )


GROUPS = {
    group.name: group
    for group in (
        Group(
            name="conv3x3",
            title="3x3, stride 1",
            about=(
                "64 channels or more on either side, 14 pixels or more: all of ResNet-50 and "
                "VGG-19, one layer of each level of U-Net but the outermost, which take seconds. "
                "Six of them in batches of 16, half of those channels first."
            ),
            parts=_conv3x3,
        ),
        Group(
            name="pointwise",
            title="1x1",
            about=(
                "All of ResNet-50, with the strided shortcuts; of MobileNet v1 and v2 eleven, one "
                "of each resolution and kind. Ten of them in batches of 16, half of those channels "
                "first."
            ),
            parts=_pointwise,
        ),
        Group(
            name="dense",
            title="other dense layers",
            about=(
                "The stem of ResNet-50, its strided layers and those on 7x7 pixels, 5x5 of "
                "GoogLeNet, 3x3 with dilation 2 and 4."
            ),
            parts=_dense,
        ),
        Group(
            name="depthwise",
            title="depthwise",
            about=(
                "3x3 of MobileNet v1 with stride 1 and 2, 5x5 of MobileNet v3, 7x7 of ConvNeXt-T, "
                "13x13 to 31x31 of RepLKNet-31B (one image only)."
            ),
            parts=_depthwise,
        ),
        Group(
            name="grouped",
            title="grouped",
            about="3x3 of ResNeXt-101 (32x4d): 4, 8, 16 and 32 channels a group, stride 1 and 2.",
            parts=_grouped,
        ),
        Group(
            name="one_axis",
            title="one axis",
            about=(
                "WaveNet, one second of sound, causal. PyTorch pads both ends and is given the "
                "part that counts as a view. A third of the layers in batches of 16."
            ),
            parts=_one_axis,
        ),
        Group(
            name="three_axes",
            title="three axes",
            about=(
                "3D U-Net, layers of less than 20 GFLOP: the others take seconds. Volumes one at a "
                "time."
            ),
            parts=_three_axes,
        ),
        Group(
            name="training",
            title="a step of training",
            about=(
                "The forward pass, the gradient of the images (not in the first layer) and that of "
                "the weights, of every layer of ResNet-50, and of the layers of VGG-19 that widen "
                "and its last: the others take seconds. Weights are plain: they change at every "
                "step."
            ),
            parts=_training,
        ),
        Group(
            name="float64",
            title="float64",
            about="Every layer of ResNet-50.",
            parts=_typed(DType.F64),
        ),
        Group(
            name="bfloat16",
            title="bfloat16",
            about="Every layer of ResNet-50.",
            parts=_typed(DType.BF16),
        ),
        Group(
            name="pooling",
            title="pooling",
            about=(
                "Every pooling of ResNet-50, VGG-19 and GoogLeNet, the global averages among them; "
                "seven in batches of 16, against PyTorch alone. Rates are of the operands, each "
                "touched once."
            ),
            parts=_pooling,
        ),
        Group(
            name="linear",
            title="linear layers",
            about=(
                "The linear layers of ConvNeXt-T's blocks, whose rows are pixels, its head, and "
                "the heads of VGG, against torch.nn.functional.linear."
            ),
            parts=_linear,
        ),
        Group(
            name="tiny",
            title="tiny layers",
            about=(
                "Every layer of ResNet-50, MobileNet v1 and v2 and ConvNeXt-T under 5 MFLOP, and "
                "three smaller ones."
            ),
            parts=_tiny,
        ),
        Group(
            name="avx2",
            title="3x3, 1x1 and other dense layers on AVX2",
            about=(
                "Everybody limited to the instructions of AVX2 by the variables of "
                "`src/convforge/bench/avx2.py`, with which the command starts itself again; "
                "onnxruntime, ncnn and MNN obey none and are left out. Of each group the layers "
                "that it also measures in batches. Promised is 0.9 of what the groups promise."
            ),
            parts=partial(
                avx2.parts, {"conv3x3": _conv3x3, "pointwise": _pointwise, "dense": _dense}
            ),
            environment=avx2.ENVIRONMENT,
        ),
    )
}
"""By name, in the order of the page."""
