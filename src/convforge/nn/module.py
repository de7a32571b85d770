"""The base of layers and networks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from convforge.arrays import (
    HOST,
    Array,
    as_array,
    copied,
    current,
    device_named,
    device_of,
    home_of,
    is_place,
    move,
)
from convforge.autograd import Tensor, is_grad_enabled, no_grad
from convforge.nn.packed import PackedWeights

Self = TypeVar("Self", bound="Module")


class Parameter(Tensor):
    """A Tensor that a module learns: set as its attribute, it appears in ``parameters()``."""

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        super().__init__(data, requires_grad)


class IncompatibleKeys(NamedTuple):
    """What :meth:`Module.load_state_dict` did not find in the state, or not in the module."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class _Calls(threading.local):
    inside = False


_calls = _Calls()


class Module:
    """Parameters, buffers and modules by name, and a ``forward``.

    A subclass calls ``super().__init__()``, sets parameters and modules as attributes, and defines
    ``forward``. Keys and layouts of :meth:`state_dict` are those of torch.nn.

    Attributes:
        training: Dropout drops, BatchNorm takes the batch's statistics, calls are recorded.
    """

    training: bool
    _packed: PackedWeights | None = None
    """Set by layers whose weights kernels may want prepared."""

    def __init__(self) -> None:
        # Past __setattr__, which needs these three.
        self.__dict__.update(training=True, _parameters={}, _buffers={}, _modules={})

    def forward(self, *inputs: Any) -> Any:
        """What the module computes; call the module itself instead."""
        raise NotImplementedError(f"{type(self).__name__}.forward")

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        """Run ``forward``.

        ``forward`` always gets Tensors. Plain arrays in eval mode or under ``no_grad()`` give
        plain arrays of their framework back; all other calls give Tensors. The module that is
        called decides for those inside it.
        """
        if _calls.inside:
            return self.forward(*inputs, **keywords)
        _calls.inside = True
        try:
            wrapped = [_as_tensor(i) for i in inputs]
            recorded = self.training and is_grad_enabled()
            if recorded or any(isinstance(i, Tensor) for i in inputs):
                return self.forward(*wrapped, **keywords)
            with no_grad():
                result = self.forward(*wrapped, **keywords)
            return _as_arrays(result, home_of(inputs[0]) if inputs else np.asarray)
        finally:
            _calls.inside = False

    # Names.

    def __setattr__(self, name: str, value: Any) -> None:
        if "_parameters" not in self.__dict__:
            raise AttributeError(
                f"cannot set {name!r}: call super().__init__() in {type(self).__name__}.__init__"
            )
        for kind, table in ((Parameter, self._parameters), (Module, self._modules)):
            if isinstance(value, kind):
                self._forget(name)
                table[name] = value
                return
        for table in (self._parameters, self._modules, self._buffers):
            if name in table:
                self._check_replacement(name, value, table)
                table[name] = value
                return
        object.__setattr__(self, name, value)

    def _check_replacement(self, name: str, value: Any, table: Mapping[str, Any]) -> None:
        wanted = {id(self._parameters): "a Parameter", id(self._modules): "a Module"}
        if value is not None and not (table is self._buffers and isinstance(value, Tensor)):
            raise TypeError(
                f"{name} is a {type(value).__name__}; wanted "
                f"{wanted.get(id(table), 'a Tensor')} or None in its place (to write values, use "
                f"{name}.copy_(values))"
            )

    def __getattr__(self, name: str) -> Any:
        for table in ("_parameters", "_buffers", "_modules"):
            found = self.__dict__.get(table, {})
            if name in found:
                return found[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __delattr__(self, name: str) -> None:
        if not self._forget(name):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def _forget(self, name: str) -> bool:
        tables = (self.__dict__, self._parameters, self._buffers, self._modules)
        found = [table.pop(name) for table in tables if name in table]
        return bool(found)

    def register_parameter(self, name: str, parameter: Parameter | None) -> None:
        """Give the module a parameter, or the place of one."""
        self._forget(name)
        self._parameters[name] = parameter

    def register_buffer(self, name: str, buffer: Any) -> None:
        """Give the module an array that is part of its state and is not learned."""
        self._forget(name)
        kept = None if buffer is None else Tensor(buffer)
        self._buffers[name] = kept

    def add_module(self, name: str, module: Module | None) -> None:
        """Give the module another one."""
        self._forget(name)
        self._modules[name] = module

    # Walks.

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all inside it, each once, with their dotted names."""
        seen: set[int] = set()
        waiting: list[tuple[str, Module]] = [(prefix, self)]
        while waiting:
            name, module = waiting.pop(0)
            if id(module) in seen:
                continue
            seen.add(id(module))
            yield name, module
            inside = [(f"{name}.{n}" if name else n, m) for n, m in module.named_children()]
            waiting = inside + waiting

    def modules(self) -> Iterator[Module]:
        """This module and all inside it."""
        return (module for _, module in self.named_modules())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly inside this one."""
        return ((name, module) for name, module in self._modules.items() if module is not None)

    def children(self) -> Iterator[Module]:
        """The modules directly inside this one."""
        return (module for _, module in self.named_children())

    def named_parameters(
        self, prefix: str = "", recurse: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """All parameters, each once, with their dotted names."""
        return self._named("_parameters", prefix, recurse)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """All parameters, each once."""
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def named_buffers(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Tensor]]:
        """All buffers, each once, with their dotted names."""
        return self._named("_buffers", prefix, recurse)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """All buffers, each once."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def _named(self, table: str, prefix: str, recurse: bool) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        walk = self.named_modules(prefix) if recurse else iter([(prefix, self)])
        for path, module in walk:
            for name, value in module.__dict__[table].items():
                if value is not None and id(value) not in seen:
                    seen.add(id(value))
                    yield (f"{path}.{name}" if path else name), value

    def apply(self: Self, function: Callable[[Module], Any]) -> Self:
        """Call a function on every module inside, then on this one; returns it."""
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    # State.

    def state_dict(self) -> dict[str, Array]:
        """Parameters and buffers by name, copied where they lie: training does not change it."""
        state = ((name, value._data) for name, value in self._named_state())
        return {name: copied(array) for name, array in state}

    def _named_state(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        for table in (self._parameters, self._buffers):
            for name, value in table.items():
                if value is not None:
                    yield prefix + name, value
        for name, module in self.named_children():
            yield from module._named_state(f"{prefix}{name}.")

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True
    ) -> IncompatibleKeys:
        """Write a state, such as one of :meth:`state_dict` or of the same network in PyTorch.

        Args:
            state_dict: Arrays or tensors by name, on the host or on any device.
            strict: Refuse missing and unexpected names.

        Raises:
            ValueError: Names or shapes that do not fit; nothing is written.
        """
        own = dict(self._named_state())
        missing = [name for name in own if name not in state_dict]
        unexpected = [name for name in state_dict if name not in own]
        values = {
            name: value._data if isinstance(value, Tensor) else as_array(value, name)
            for name, value in state_dict.items()
            if name in own
        }
        wrong = [
            f"{name} has shape {value.shape}; wanted {own[name].shape}"
            for name, value in values.items()
            if value.shape != own[name].shape
        ]
        if strict and missing:
            wrong.append(f"missing: {', '.join(missing)}")
        if strict and unexpected:
            wrong.append(f"unexpected: {', '.join(unexpected)}")
        if wrong:
            raise ValueError(f"the state does not fit {type(self).__name__}: {'; '.join(wrong)}")
        for name, value in values.items():
            own[name].copy_(value)
        return IncompatibleKeys(missing, unexpected)

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters():
            parameter.grad = None

    def requires_grad_(self: Self, requires_grad: bool = True) -> Self:
        """Change whether the parameters learn; returns the module."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def to(
        self: Self, *words: Any, device: str | None = None, dtype: DTypeLike | None = None
    ) -> Self:
        """Bring parameters and buffers to another place, or to another type; returns the module.

        Gradients go along to another place, and what an optimiser remembers follows at its next
        step. To another type go floating numbers alone, without their gradients.

        Args:
            words: A place, a type, or both, in any order.
            device: The place: ``"cpu"``, ``"cuda"`` or ``"cuda:0"``.
            dtype: The type.

        Raises:
            ValueError: No such place.
            CudaUnavailableError: No GPU, no driver or no CuPy; says what to install.
        """
        for word in words:
            if is_place(word):
                device = word
            else:
                dtype = np.dtype(word)
        if device is not None:
            place = device_named(device)
            for _, value in self._named_state():
                for tensor in (value, value.grad):
                    if tensor is not None and device_of(tensor._data) is not place:
                        tensor.data = move(tensor._data, place)
        if dtype is not None:
            for _, value in self._named_state():
                if value.dtype.kind not in "iub":
                    with current(value._data):
                        value.data = value._data.astype(dtype)
                    value.grad = None
        return self

    def cpu(self: Self) -> Self:
        """``to("cpu")``."""
        return self.to(HOST)

    def cuda(self: Self) -> Self:
        """``to("cuda")``."""
        return self.to("cuda")

    def float(self: Self) -> Self:
        """Bring parameters and buffers to float32."""
        return self.to(np.float32)

    def double(self: Self) -> Self:
        """Bring parameters and buffers to float64."""
        return self.to(np.float64)

    # Modes.

    def train(self: Self, mode: bool = True) -> Self:
        """Set training mode here and in all modules inside; ends :meth:`freeze`."""
        for module in self.modules():
            module.training = bool(mode)
            if mode and module._packed is not None:
                module._packed.release()
                module._packed.frozen = False
        return self

    def eval(self: Self) -> Self:
        """Set evaluation mode here and in all modules inside."""
        return self.train(False)

    def freeze(self: Self) -> Self:
        """Promise not to write to the weights: eval mode, and packed weights are not re-checked.

        Without the promise layers compare a few elements at every call, which sees most writes
        through older views of the weights' memory, and always see writes through the Tensor. On a
        device nothing is compared, for that would wait for it: weights are packed at every call
        unless they are frozen. ``train()`` takes the promise back.
        """
        self.eval()
        for packed in self._all_packed():
            packed.frozen = True
        return self

    def refresh(self: Self) -> Self:
        """Pack the weights anew at the next call: after writing to their memory from elsewhere."""
        for packed in self._all_packed():
            packed.release()
        return self

    def _all_packed(self) -> Iterator[PackedWeights]:
        return (m._packed for m in self.modules() if m._packed is not None)

    def _prepare(self, weight: Tensor) -> Any:
        """Where a call gets prepared weights from; None while gradients are recorded."""
        if self._packed is None:
            return None
        if is_grad_enabled():
            if self.training:
                self._packed.release()
            return None
        if device_of(weight._data) is not None and not self._packed.frozen:
            return None
        return self._packed.of(weight)

    # Text.

    def extra_repr(self) -> str:
        """Settings, as they stand in the text between the brackets."""
        return ""

    def __repr__(self) -> str:
        name = type(self).__name__
        inside = [f"({n}): {m!r}".replace("\n", "\n  ") for n, m in self._modules.items()]
        if not inside:
            return f"{name}({self.extra_repr()})"
        return "\n  ".join([f"{name}(", *inside]) + "\n)"


def _as_tensor(value: Any) -> Any:
    """An array as a Tensor; other things as they are."""
    if isinstance(value, Tensor) or not (
        hasattr(value, "__array_interface__")
        or hasattr(value, "__dlpack__")
        or hasattr(value, "__cuda_array_interface__")
    ):
        return value
    return Tensor(as_array(value, "input"))


def _as_arrays(result: Any, home: Callable[[Array], Any]) -> Any:
    if isinstance(result, tuple):
        return tuple(_as_arrays(r, home) for r in result)
    return home(result._data) if isinstance(result, Tensor) else result
