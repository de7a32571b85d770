"""Optimisers, with the update rules, names and state of torch.optim."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from convforge.arrays import Array, copied, current, device_of, move, namespace
from convforge.autograd import Tensor, enable_grad

__all__ = ["SGD", "Adam", "AdamW", "Optimizer"]

Group = dict[str, Any]


class Optimizer:
    """Parameters in groups, each group with its settings, and a state for each parameter.

    Args:
        params: Tensors, or groups: dictionaries with ``"params"`` and settings of their own.
        defaults: Settings of groups that do not say otherwise.

    Attributes:
        param_groups: Dictionaries with ``"params"`` and settings, which may be changed between
            steps: ``optimizer.param_groups[0]["lr"] = 0.01``.
        state: What is remembered of each parameter, by its ``id``. Arrays in it lie where the
            parameter lies, and follow it at the next step if it is brought to another place.

    Raises:
        TypeError: Something that is no Tensor.
        ValueError: No parameters, or one of them twice.
    """

    def __init__(self, params: Iterable[Any], defaults: Mapping[str, Any]) -> None:
        given: list[Any] = [params] if isinstance(params, Tensor) else list(params)
        if not given:
            raise ValueError("params is empty; wanted Tensors, such as model.parameters()")
        groups = given if isinstance(given[0], dict) else [{"params": given}]
        self.param_groups: list[Group] = [
            {**defaults, **group, "params": list(group["params"])} for group in groups
        ]
        self.state: dict[int, dict[str, Any]] = {}
        for p in self._params():
            if not isinstance(p, Tensor):
                raise TypeError(f"params holds a {type(p).__name__}; wanted convforge.Tensor")
        if len({id(p) for p in self._params()}) != len(self._params()):
            raise ValueError("params holds one Tensor twice")

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for p in self._params():
            p.grad = None

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Write every parameter that has a gradient.

        Args:
            closure: Called first: computes the loss and the gradients, and returns the loss.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    state = self.state.setdefault(id(p), {})
                    device = device_of(p.data)
                    for name, value in state.items():
                        if _is_array(value):
                            state[name] = move(value, device)
                    with current(p.data):
                        p.copy_(self._updated(group, state, p.data, p.grad.data))
        return loss

    def _updated(self, group: Group, state: dict[str, Any], p: Array, grad: Array) -> Array:
        """The parameter after one step; ``state`` is the parameter's own, to read and write."""
        raise NotImplementedError(f"{type(self).__name__}._updated")

    def state_dict(self) -> dict[str, Any]:
        """State by the parameters' positions, and the groups' settings; arrays are copied."""
        number = {id(p): i for i, p in enumerate(self._params())}
        return {
            "state": {number[key]: _copied(s) for key, s in self.state.items()},
            "param_groups": [
                {**group, "params": [number[id(p)] for p in group["params"]]}
                for group in self.param_groups
            ],
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state_dict` of an optimiser of the same parameters.

        Raises:
            ValueError: Other numbers of groups or parameters.
        """
        came = [len(group["params"]) for group in state_dict["param_groups"]]
        own = [len(group["params"]) for group in self.param_groups]
        if came != own:
            raise ValueError(f"the state has groups of {came} parameters; wanted {own}")
        for group, settings in zip(self.param_groups, state_dict["param_groups"], strict=True):
            group.update({**settings, "params": group["params"]})
        params = self._params()
        self.state = {id(params[int(i)]): _copied(s) for i, s in state_dict["state"].items()}

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            settings = ", ".join(f"{n}={v}" for n, v in group.items() if n != "params")
            lines.append(f"  group {i}: {len(group['params'])} parameters, {settings}")
        return "\n".join([*lines, ")"])

    def _params(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum as in Sutskever et al. 2013 and PyTorch.

    Args:
        params: Tensors or groups.
        lr: Length of a step.
        momentum: Share of the direction that is kept from step to step.
        dampening: Share of the gradient that momentum does not take.
        weight_decay: Added to the gradient, times the parameter.
        nesterov: Look ahead along the momentum.

    Raises:
        ValueError: A setting out of range.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        _require_positive(lr=lr, momentum=momentum, weight_decay=weight_decay)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError(
                f"nesterov needs momentum above 0 and no dampening, got momentum={momentum} and "
                f"dampening={dampening}"
            )
        settings = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
        }
        super().__init__(params, settings)

    def _updated(self, group: Group, state: dict[str, Any], p: Array, grad: Array) -> Any:
        if group["weight_decay"]:
            grad = grad + group["weight_decay"] * p
        momentum = group["momentum"]
        if momentum:
            velocity = state.get("momentum_buffer")
            velocity = (
                namespace(grad).array(grad)
                if velocity is None
                else momentum * velocity + (1 - group["dampening"]) * grad
            )
            state["momentum_buffer"] = velocity
            grad = grad + momentum * velocity if group["nesterov"] else velocity
        return p - group["lr"] * grad


class Adam(Optimizer):
    """Adaptive moments (Kingma & Ba 2015, arXiv:1412.6980).

    Args:
        params: Tensors or groups.
        lr: Length of a step.
        betas: Shares of the first and second moments that are kept from step to step.
        eps: Added to the root of the second moment.
        weight_decay: Added to the gradient, times the parameter.

    Raises:
        ValueError: A setting out of range.
    """

    _decoupled = False

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        _require_positive(lr=lr, eps=eps, weight_decay=weight_decay)
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas is {betas}; wanted two numbers from 0 to below 1")
        super().__init__(
            params, {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay}
        )

    def _updated(self, group: Group, state: dict[str, Any], p: Array, grad: Array) -> Any:
        lr, decay = group["lr"], group["weight_decay"]
        if self._decoupled:
            p = p * (1 - lr * decay)
        elif decay:
            grad = grad + decay * p
        beta1, beta2 = group["betas"]
        step = state["step"] = state.get("step", 0) + 1
        first = state.get("exp_avg", 0) * beta1 + (1 - beta1) * grad
        second = state.get("exp_avg_sq", 0) * beta2 + (1 - beta2) * (grad * grad.conj()).real
        state["exp_avg"], state["exp_avg_sq"] = first, second
        root = namespace(p).sqrt(second) / math.sqrt(1 - beta2**step) + group["eps"]
        return p - lr / (1 - beta1**step) * (first / root)


class AdamW(Adam):
    """Adam whose weight decay goes past the moments (Loshchilov & Hutter 2019, arXiv:1711.05101).

    The arguments are those of :class:`Adam`.
    """

    _decoupled = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or device_of(value) is not None


def _copied(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state whose arrays are copies."""
    return {n: copied(v) if _is_array(v) else v for n, v in state.items()}


def _require_positive(**settings: float) -> None:
    for name, value in settings.items():
        if not value >= 0:
            raise ValueError(f"{name} is {value}; wanted at least 0")
