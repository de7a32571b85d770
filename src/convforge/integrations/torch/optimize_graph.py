"""Graphs of PyTorch's operators, with products and what follows them fused.

A graph is what ``torch.export`` makes: no operator of it writes to its operands, and every shape is
known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from convforge.contract import UnsupportedProblem
from convforge.integrations.torch.fallback import REALS
from convforge.integrations.torch.optimize_layers import Fused, Norm, Pooled, Weights
from convforge.integrations.torch.settings import each, paddings
from convforge.ops import PoolArguments, adaptive_arguments, conv_arguments, pool_arguments
from convforge.problem import PoolKind

if TYPE_CHECKING:
    from convforge.policy import Policy

_aten: Any = torch.ops.aten

_CONVS = {
    overload: rank
    for rank in (1, 2, 3)
    for packet in (getattr(_aten, f"conv{rank}d"),)
    for overload in (packet.default, packet.padding)
}
_LINEAR = _aten.linear.default
_ADD = _aten.add.Tensor
_MUL = _aten.mul.Tensor
_PERMUTE = _aten.permute.default
_PADS = (_aten.pad.default, _aten.constant_pad_nd.default)
_NORM = _aten._native_batch_norm_legit_no_training.default
_POOLS = {
    getattr(_aten, f"{kind}_pool{rank}d").default: (kind, rank)
    for rank in (1, 2, 3)
    for kind in ("max", "avg", "adaptive_avg")
}
_WINDOW: tuple[Any, ...] = (None, 0)
"""Stride and padding, where an operator has been given none."""
_LAYOUTS = {1: "nwc", 2: "nhwc", 3: "ndhwc"}
_METHODS = {
    _aten.view.default: "reshape",
    _aten.reshape.default: "reshape",
    _aten.permute.default: "permute",
    _aten.transpose.int: "transpose",
}
_VIEWS = {
    _aten.flatten.using_ints, _aten.unsqueeze.default, _aten.squeeze.dim, _aten.expand.default,
    _aten.alias.default, *_METHODS, _aten.detach.default, _aten.slice.Tensor, _aten.select.int,
}  # fmt: skip


@dataclass
class Summary:
    """What became of a model's operators; ``str()`` is a table.

    Attributes:
        fused: ``(layer, what is computed, algorithm)`` of each kernel.
        left: How many times operators were left to PyTorch, by name and reason.
        split: ``(module, reason)`` of those that could not be traced as a whole.
    """

    fused: list[tuple[str, str, str]] = field(default_factory=list)
    left: Counter[tuple[str, str]] = field(default_factory=Counter)
    split: list[tuple[str, str]] = field(default_factory=list)

    def __str__(self) -> str:
        width = max((len(name) for name, _, _ in self.fused), default=0)
        wide = max((len(what) for _, what, _ in self.fused), default=0)
        lines = [f"{name:<{width}}  {what:<{wide}}  {how}" for name, what, how in self.fused]
        if self.left:
            lines.append("left to PyTorch:")
            lines += [f"{n:6}  {name}: {why}" for (name, why), n in self.left.most_common()]
        if self.split:
            lines.append("not traced as a whole:")
            lines += [f"  {name or 'the model'}: {why}" for name, why in self.split]
        return "\n".join(lines) or "nothing was called yet"


@dataclass
class _Layer:
    """A product, and the operators behind it that its kernel can do too.

    Attributes:
        node: The product. last: The operator whose result the kernel computes.
        norm, scale, residual, activation: What is between them, in this order.
        turned: The residual comes behind this permutation of axes.
        borders: An operator before it that pads with zeros.
        members: All operators that it replaces.
    """

    node: Any
    last: Any
    norm: Any = None
    scale: Any = None
    residual: Any = None
    activation: str | None = None
    turned: tuple[int, ...] | None = None
    borders: Any = None
    members: list[Any] = field(default_factory=list)

    def key(self, constants: dict[Any, Any]) -> tuple[Any, ...]:
        """Places of all that its weights are made of."""
        parts = [self.node.args[1], _argument(self.node, 2), self.scale]
        if self.norm is not None:
            parts += self.norm.args[1:5]
        eps = None if self.norm is None else self.norm.args[6]
        tensors = [constants.get(part) for part in parts]
        return eps, *(None if t is None else (t.data_ptr(), t.shape, t.stride()) for t in tensors)

    def __str__(self) -> str:
        words = [str(self.node.target.overloadpacket).partition(".")[2]]
        words = ["pad"] * (self.borders is not None and any(self.borders.args[1])) + words
        words += ["norm"] * (self.norm is not None) + ["scale"] * (self.scale is not None)
        words += ["add"] * (self.residual is not None)
        return " + ".join([*words, *([self.activation] if self.activation else [])])


def fuse(
    graph: Any, kept: dict[tuple[Any, ...], Weights], policy: Policy | None, name: str
) -> Summary:
    """Put kernels into a graph module, in place; says what was fused and what was left.

    Args:
        kept: Weights of other graphs of the same module, by what they are made of; is added to.
        name: Of the module within the model.
    """
    summary = Summary()
    _drop_clones(graph.graph)
    constants = {
        node: value
        for node in graph.graph.nodes
        if node.op == "get_attr" and isinstance(value := _fetch(graph, node.target), torch.Tensor)
    }
    refused: dict[Any, str] = {}
    taken: set[Any] = set()
    # From the end, so that of two products that are added the one computed last adds the other.
    for node in reversed(list(graph.graph.nodes)):
        if node.op != "call_function" or (node.target not in _CONVS and node.target is not _LINEAR):
            continue
        why = _refusal(node, constants)
        if why is None:
            layer = _gather(node, constants, taken)
            try:
                made = _make(layer, constants, kept, policy)
            except (TypeError, ValueError, UnsupportedProblem) as error:
                why = str(error).partition("\n")[0]
            else:
                where = f"{name}.{node.args[1].target}".strip(".").removesuffix(".weight")
                taken.update(layer.members)
                _put(graph.graph, layer, made)
                summary.fused.insert(0, (where, made.label, made.plan.algorithm))
        if why is not None:
            refused[node] = why
    graph.graph.eliminate_dead_code()
    for node in graph.graph.nodes:
        if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
            continue
        if node.target in _POOLS:
            try:
                made_pool = _pool(node, policy)
            except (TypeError, ValueError, UnsupportedProblem) as error:
                refused[node] = str(error).partition("\n")[0]
            else:
                node.target, node.args = made_pool, node.args[:1]
                summary.fused.append((node.name, made_pool.label, made_pool.plan.algorithm))
                continue
        if node.target in _METHODS:
            # Methods are found sooner. And views were traced on images whose channels are first.
            node.op, node.target = "call_method", _METHODS[node.target]
        elif node.target not in _VIEWS:
            why = refused.get(node, "no kernel here, or none before it that could do it too")
            summary.left[str(node.target).removesuffix(".default"), why] += 1
    graph.graph.lint()
    graph.recompile()
    return summary


def _drop_clones(graph: Any) -> None:
    """Take copies away that nobody can tell from what they are of: nothing is written to here.

    Dropout in evaluation mode becomes one. Copies of the caller's tensors and of weights stay, and
    those that a result would share with another.
    """
    (output,) = (node for node in graph.nodes if node.op == "output")
    for node in graph.nodes:
        if node.op != "call_function" or node.target is not _aten.clone.default:
            continue
        root = node.args[0]
        while root.op == "call_function" and root.target in _VIEWS:
            root = root.args[0]
        if root.op == "call_function" and output not in node.users:
            node.replace_all_uses_with(node.args[0])
    graph.eliminate_dead_code()


def _refusal(node: Any, constants: dict[Any, Any]) -> str | None:
    """Why a product cannot have a kernel of its own, or None."""
    x, weight, bias = node.args[0], node.args[1], _argument(node, 2)
    if weight not in constants or (bias is not None and bias not in constants):
        return "its weights are computed"
    if node.kwargs:
        return "it has keywords"
    rank = _CONVS.get(node.target, 0)
    value = _value(x)
    if value.dim() < 1 or (rank and value.dim() != rank + 2):
        return "the input is one image, without a batch"
    if value.dtype not in REALS or constants[weight].dtype is not value.dtype:
        return f"{value.dtype} with weights of {constants[weight].dtype}"
    return None if value.numel() else "the input is empty"


def _gather(node: Any, constants: dict[Any, Any], taken: set[Any]) -> _Layer:
    """All that follows a product and can be computed with it, as far as nobody else needs it."""
    layer = _Layer(node=node, last=node, members=[node])
    K = constants[node.args[1]].shape[0]
    rank = _CONVS.get(node.target, 0)
    source = node.args[0]
    if (
        rank
        and source.op == "call_function"
        and source.target in _PADS
        and _is_border(source, rank)
    ):
        layer.borders = source

    def follow() -> Any:
        (user, *others) = layer.last.users or [None]
        return None if others or user is None or user in taken or user.op == "output" else user

    def extend(*nodes: Any) -> None:
        layer.members.extend(nodes)
        layer.last = nodes[-1]

    user = follow()
    channels_second = rank or _value(node).dim() == 2
    if user is not None and user.target is _NORM and user.args[0] is node and channels_second:
        statistics = [a for a in user.args[1:5] if a is not None]
        first = [u for u in user.users if u.args[1] == 0]
        if len(first) == len(user.users) == 1 and all(a in constants for a in statistics):
            layer.norm = user
            extend(user, first[0])
            user = follow()
    if user is not None and user.target is _MUL:
        other = user.args[1] if user.args[0] is layer.last else user.args[0]
        wanted = (K, *[1] * rank)
        if (
            other in constants
            and _without_ones(constants[other].shape) == _without_ones(wanted)
            and constants[other].shape[-len(wanted) :] == wanted
        ):
            layer.scale = other
            extend(user)
            user = follow()
    turn = user if user is not None and user.target is _PERMUTE and not rank else None
    if turn is not None:
        (user, *others) = turn.users or [None]
        user = None if others or user in taken else user
    before = layer.last if turn is None else turn
    if user is not None and user.target is _ADD and not user.kwargs:
        other = user.args[1] if user.args[0] is before else user.args[0]
        same = isinstance(other, torch.fx.Node) and other is not before
        if (
            same
            and _value(other).shape == _value(before).shape
            and _value(other).dtype is _value(before).dtype
        ):
            layer.residual = other
            if turn is not None:
                layer.turned = tuple(turn.args[1])
                extend(turn, user)
                return layer
            extend(user)
            user = follow()
    elif turn is not None:
        return layer
    activation = None if user is None else _activation(user)
    if activation is not None:
        layer.activation = activation
        extend(user)
    return layer


def _activation(node: Any) -> str | None:
    """The post op that an operator is, or None."""
    if node.op != "call_function":
        return None
    args, words = node.args[1:], node.kwargs
    if node.target is _aten.relu.default:
        return "relu"
    if node.target is _aten.relu6.default:
        return "relu6"
    if node.target is _aten.hardtanh.default and not words:
        return "relu6" if tuple(float(a) for a in args) == (0.0, 6.0) else None
    if node.target is _aten.gelu.default:
        # That of tanh, and silu, are computed an element at a time: PyTorch's vectors are faster.
        how = (*args, words.get("approximate", "none"))[0]
        return "gelu" if how == "none" and _value(node).dtype is torch.float32 else None
    return None


def _is_border(node: Any, rank: int) -> bool:
    """Whether an operator puts zeros around images."""
    widths = list(node.args[1])
    mode = _argument(node, 2, "constant") if node.target is _PADS[0] else "constant"
    value = _argument(node, 3 if node.target is _PADS[0] else 2, 0)
    inner, outer = widths[: 2 * rank], widths[2 * rank :]
    return (
        not node.kwargs
        and mode == "constant"
        and value in (None, 0)
        and len(inner) == 2 * rank
        and not any(outer)
        and min(inner) >= 0
    )


def _make(
    layer: _Layer,
    constants: dict[Any, Any],
    kept: dict[tuple[Any, ...], Weights],
    policy: Policy | None,
) -> Fused:
    node = layer.node
    key = layer.key(constants)
    weights = kept.get(key)
    if weights is None:
        weights = kept[key] = Weights(
            constants[node.args[1]],
            constants.get(_argument(node, 2)),
            _norm(layer.norm, constants),
            constants.get(layer.scale),
        )
    rank = _CONVS.get(node.target, 0)
    if not rank:
        args = conv_arguments(1, layout="nwc", activation=layer.activation, policy=policy)
        shape = _value(node.args[0]).shape
    else:
        size = constants[node.args[1]].shape[2:]
        stride = each(_argument(node, 3, 1), rank)
        dilation = each(_argument(node, 5, 1), rank)
        widths = list(paddings(_argument(node, 4, 0), size, stride, dilation))
        source = node.args[0]
        if layer.borders is not None:
            source = layer.borders.args[0]
            around = layer.borders.args[1]
            for axis in range(rank):  # the operator counts from the last
                at = 2 * (rank - 1 - axis)
                widths[2 * axis] += around[at]
                widths[2 * axis + 1] += around[at + 1]
        args = conv_arguments(
            rank, stride, tuple(zip(widths[::2], widths[1::2], strict=True)), dilation,
            _argument(node, 6, 1), layout=_LAYOUTS[rank], activation=layer.activation,
            policy=policy,
        )  # fmt: skip
        shape = _value(source).shape
    return Fused(
        str(layer), args, weights, tuple(shape), constants[node.args[1]].dtype,
        residual=layer.residual is not None, rows=not rank,
    )  # fmt: skip


def _pool(node: Any, policy: Policy | None) -> Pooled:
    kind, rank = _POOLS[node.target]
    value = _value(node.args[0])
    if value.dim() != rank + 2:
        raise ValueError("the input is one image, without a batch")
    if value.dtype not in REALS:
        raise ValueError(f"{value.dtype} is not computed here")
    if node.kwargs:
        raise ValueError("it has keywords")
    given: tuple[Any, ...] = tuple(node.args[1:])
    layout: dict[str, Any] = {"layout": _LAYOUTS[rank], "policy": policy}
    args: PoolArguments
    if kind == "adaptive_avg":
        args = adaptive_arguments(PoolKind.AVG, rank, *given, **layout)
    elif kind == "max":
        args = pool_arguments(PoolKind.MAX, rank, *given, **layout)
    else:
        window, stride, padding, *ending = [*given, *_WINDOW[len(given) - 1 :]]
        args = pool_arguments(
            PoolKind.AVG, rank, window, stride, padding, 1, *ending, **layout
        )  # fmt: skip
    label = str(node.target.overloadpacket).partition(".")[2]
    return Pooled(label, args, tuple(value.shape), value.dtype)


def _norm(node: Any, constants: dict[Any, Any]) -> Norm | None:
    if node is None:
        return None
    _, weight, bias, mean, var, _, eps = node.args
    return Norm(
        mean=constants[mean], var=constants[var], eps=eps,
        weight=constants.get(weight), bias=constants.get(bias),
    )  # fmt: skip


def _put(graph: Any, layer: _Layer, made: Fused) -> None:
    """Have a kernel compute what the last operator of a layer did."""
    source = layer.node.args[0] if layer.borders is None else layer.borders.args[0]
    operands = [source] if layer.residual is None else [source, layer.residual]
    with graph.inserting_before(layer.last):
        if layer.turned is None:
            result = graph.call_function(made, tuple(operands))
        else:
            # The sum of turned images is the turned sum: what is added is turned the other way.
            back = [layer.turned.index(axis) for axis in range(len(layer.turned))]
            other = graph.call_function(_PERMUTE, (layer.residual, back))
            result = graph.call_function(made, (source, other))
            result = graph.call_function(_PERMUTE, (result, list(layer.turned)))
    result.meta["val"] = _value(layer.last)
    layer.last.replace_all_uses_with(result)
    for member in reversed(layer.members):
        graph.erase_node(member)


def _argument(node: Any, place: int, usual: Any = None) -> Any:
    return node.args[place] if len(node.args) > place else usual


def _value(node: Any) -> Any:
    """The tensor that stands for a node's result: of its shape, without its numbers."""
    return node.meta["val"]


def _without_ones(shape: Iterable[int]) -> list[int]:
    return [n for n in shape if n != 1]


def _fetch(module: Any, target: str) -> Any:
    for name in target.split("."):
        module = getattr(module, name)
    return module
