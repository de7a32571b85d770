"""From a problem to something that runs: choose an algorithm once, call it many times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from math import prod
from typing import Any

import numpy as np

from convforge import registry
from convforge.contract import (
    Algorithm,
    Config,
    Machine,
    Program,
    Rejected,
    TakesPlainWeights,
    Tolerance,
    UnsupportedProblem,
    WeightFormat,
)
from convforge.executor import Executable, prepend
from convforge.heuristics import Candidate, Explanation, rank
from convforge.operands import (
    PreparedWeights,
    names_of,
    overlap_on,
    require,
    require_on,
    require_packed,
    require_writable,
    shapes_and_dtypes,
)
from convforge.policy import Policy
from convforge.problem import Direction, Problem, parse
from convforge.runtime import machine as machines
from convforge.runtime import threads
from convforge.runtime.cuda.device import Device, DeviceMemoryError
from convforge.runtime.cuda.executable import CudaExecutable
from convforge.runtime.dtypes import numpy_dtype
from convforge.runtime.memory import aligned_empty, array_address
from convforge.runtime.results import aligned_array, is_small

__all__ = ["Explanation", "Plan", "Policy", "PreparedWeights", "numpy_dtype", "plan"]


class Plan:
    """One problem, one algorithm, ready to run. Immutable and thread-safe.

    Pickles as its problem, policy and choice, and rebuilds where it is loaded.

    Attributes:
        problem: What it computes. policy: What was allowed.
        algorithm: Full name of the choice. config: Its configuration.
        program: Its launches. tolerance: The error it promises to stay within.
        weight_format: Layout of prepared weights, None where plain ones are read in place.
        device: Where its arrays lie and its kernels run; None is the CPU.
        on_host: Whether it is the NumPy reference, which has no launches.
    """

    def __init__(
        self,
        problem: Problem,
        policy: Policy,
        choice: Algorithm,
        config: Config,
        device: Device | None = None,
    ) -> None:
        self.problem = problem
        self.policy = policy
        self.device = device
        self._machine = _machine(policy, device)
        self._choice = choice
        self.algorithm = choice.name
        self.tolerance: Tolerance = choice.tolerance
        self.config = config
        self.program: Program = choice.program(problem, config, self._machine)
        self.weight_format: WeightFormat | None = choice.weight_format(problem, config)
        self._inputs, self._output = names_of(problem)
        shapes, dtypes = shapes_and_dtypes(problem)
        self._checks = tuple((name, shapes[name], dtypes[name]) for name in self._inputs)
        self._out_shape, self._out_dtype = shapes[self._output], dtypes[self._output]
        self._extras = tuple(
            (op.value, shapes[op.value], dtypes[op.value])
            for op in getattr(problem, "post", ())
            if op.reads_operand
        )
        self._is_small = is_small(self._out_shape, self._out_dtype)
        self._accumulates = getattr(problem, "accumulate", False)
        self._has_indices = getattr(problem, "indices", False) and self._output == "y"
        first = self.program.steps[0].kernel.function
        self.on_host = device is None and not isinstance(first, _jitted_type())
        # Nothing but inputs and an output: all that the quick way out of a call asks.
        self._is_bare = not (self.on_host or self._extras or self._has_indices)
        self._names = [
            *self._inputs,
            self._output,
            *(name for name, _, _ in self._extras),
            *(["indices"] if self._has_indices else []),
        ]
        self._is_complete = True

    def __setattr__(self, name: str, value: Any) -> None:
        if "_is_complete" in self.__dict__:
            raise AttributeError(f"a plan is immutable: {name} cannot be set")
        super().__setattr__(name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.problem, self.policy, self.algorithm, self.config, self.device)

    def __deepcopy__(self, memo: dict[int, Any]) -> Plan:
        return self

    def __repr__(self) -> str:
        return f"<Plan {self.problem} by {self.algorithm}>"

    @cached_property
    def _plain(self) -> Executable | CudaExecutable:
        """Takes plain weights: prepares them in the workspace first, where the choice wants it."""
        if self.weight_format is None:
            return self._executable(self.program, self._names)
        whole = None
        if isinstance(self._choice, TakesPlainWeights):
            whole = self._choice.plain_program(self.problem, self.config, self._machine)
        if whole is None:
            packed = self.weight_format
            whole = prepend(packed.pack, self.program, "packed", packed.nbytes)
        return self._executable(whole, self._names)

    @cached_property
    def _prepared(self) -> Executable | CudaExecutable:
        """Takes prepared weights."""
        names = ["packed" if name == "w" else name for name in self._names]
        return self._executable(self.program, names)

    def _executable(self, program: Program, names: list[str]) -> Executable | CudaExecutable:
        if self.device is not None:
            return CudaExecutable(program, names, self.device)
        return Executable(program, names, self._machine)

    @property
    def workspace_bytes(self) -> int:
        """Exact scratch memory of a call, prepared weights given where there is such a format."""
        if self.on_host:
            return 0
        run = self._plain if self.weight_format is None else self._prepared
        return run.workspace_bytes

    def prepare(self, w: np.ndarray) -> PreparedWeights:
        """Bring weights into this plan's layout once, for many calls.

        Args:
            w: Plain weights, shape ``problem.w_shape``.

        Returns:
            A copy, in whatever layout the algorithm reads best; later writes to ``w`` do not
            reach it.

        Raises:
            ValueError, TypeError: Not weights of this problem, or a problem without weights.
        """
        if "w" not in self._inputs:
            raise ValueError(f"{self.problem} reads no weights")
        name, shape, dtype = next(check for check in self._checks if check[0] == "w")
        if self.device is not None:
            return self._prepare_on(self.device, w, shape, dtype)
        require(self.problem, name, w, shape, dtype)
        if self.weight_format is None:
            return PreparedWeights(f"plain:{self.problem.w.order}", w.copy())  # type: ignore[union-attr]
        data = aligned_empty(self.weight_format.nbytes)
        packer = Executable(self.weight_format.pack, ["w", "packed"], self._machine)
        packer.run([array_address(w), array_address(data)])
        data.flags.writeable = False
        return PreparedWeights(self.weight_format.id, data)

    def _prepare_on(
        self, device: Device, w: Any, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> PreparedWeights:
        require_on(device, self.problem, "w", w, shape, dtype)
        if self.weight_format is None:
            return PreparedWeights(f"plain:{self.problem.w.order}", device.copy(w))  # type: ignore[union-attr]
        data = device.empty((self.weight_format.nbytes,), np.dtype(np.uint8))
        packer = CudaExecutable(self.weight_format.pack, ["w", "packed"], device)
        packer.run([device.address(w), device.address(data)])
        return PreparedWeights(self.weight_format.id, data)

    def __call__(
        self,
        *arrays: Any,
        bias: np.ndarray | None = None,
        residual: np.ndarray | None = None,
        out: np.ndarray | None = None,
    ) -> Any:
        """Run.

        Args:
            arrays: C-contiguous, aligned NumPy arrays in the problem's memory order. Convolution:
                fprop ``(x, w)``, dgrad ``(dy, w)``, wgrad ``(x, dy)``, where ``w`` may be
                :class:`PreparedWeights`. Pooling: fprop ``(x,)``, dgrad ``(dy,)`` or, for max,
                ``(dy, indices)``.
            bias: Shape ``(K,)``, ``(C,)`` in dgrad; given exactly if the problem has it.
            residual: Of the output's shape; given exactly if the problem has it.
            out: Where to write; must not overlap an input.

        Returns:
            The output, or ``(y, indices)``.

        Raises:
            ValueError, TypeError: An array that is not the problem's; nothing is written.
        """
        if len(arrays) != len(self._checks):
            wanted = ", ".join(self._inputs)
            raise TypeError(f"{self.problem} takes {wanted}; got {len(arrays)} arrays")
        if self.device is not None:
            return self._call_on(self.device, arrays, {"bias": bias, "residual": residual}, out)
        prepared = False
        addresses = []
        # Written for small calls: no keyword, and one flag for what nearly all arrays are.
        for i, (name, shape, dtype) in enumerate(self._checks):
            array = arrays[i]
            if name == "w" and type(array) is PreparedWeights:
                array, prepared = self._unpacked(array), self.weight_format is not None
            elif (
                type(array) is not np.ndarray
                or array.shape != shape
                or array.dtype is not dtype
                or not array.flags.carray
            ):
                require(self.problem, name, array, shape, dtype)
            addresses.append(array_address(array))
        if out is None:
            if self._accumulates:
                raise ValueError(f"{self.problem} adds to its output: out must be given")
            if self._is_small:
                out = np.empty(self._out_shape, self._out_dtype)
            else:
                out = aligned_array(self._out_shape, self._out_dtype, addresses[0])
        else:
            require(self.problem, "out", out, self._out_shape, self._out_dtype)
            plain = [a.data if type(a) is PreparedWeights else a for a in arrays]
            require_writable(self.problem, out, [*plain, bias, residual])
        addresses.append(array_address(out))
        if self._is_bare and bias is None and residual is None:
            (self._prepared if prepared else self._plain).run(addresses)
            return out
        if self._extras or bias is not None or residual is not None:
            addresses += self._extra_addresses({"bias": bias, "residual": residual})
        if self.on_host:
            return self._run_on_host(arrays, bias, residual, out)
        if self._has_indices:
            indices = np.empty(self._out_shape, np.int64)
            addresses.append(array_address(indices))
        (self._prepared if prepared else self._plain).run(addresses)
        return (out, indices) if self._has_indices else out

    def _call_on(
        self, device: Device, arrays: tuple[Any, ...], given: dict[str, Any], out: Any
    ) -> Any:
        """Run on arrays of a device: enqueue, and return at once."""
        wanted = {name for name, _, _ in self._extras}
        for name, array in given.items():
            if (array is None) == (name in wanted):
                verb = "needs a" if name in wanted else "takes no"
                raise ValueError(f"{self.problem} {verb} {name}")
        # In the order of the post ops, as the names are.
        checks = [*zip(arrays, self._checks, strict=True)]
        checks += [(given[extra[0]], extra) for extra in self._extras]
        prepared = False
        plain = []
        for array, (name, shape, dtype) in checks:
            if type(array) is PreparedWeights and name == "w":
                array, prepared = self._unpacked(array), self.weight_format is not None
            else:
                require_on(device, self.problem, name, array, shape, dtype)
            plain.append(array)
        if out is None and getattr(self.problem, "accumulate", False):
            raise ValueError(f"{self.problem} adds to its output: out must be given")
        if out is not None:
            require_on(device, self.problem, "out", out, self._out_shape, self._out_dtype)
            if any(overlap_on(device, out, array) for array in plain):
                raise ValueError(f"out overlaps an input ({self.problem})")
        run = self._prepared if prepared else self._plain
        try:
            if out is None:
                out = device.empty(self._out_shape, self._out_dtype)
            addresses = [device.address(array) for array in plain]
            addresses.insert(len(arrays), device.address(out))
            indices = None
            if self._has_indices:
                indices = device.empty(self._out_shape, np.dtype(np.int64))
                addresses.append(device.address(indices))
            run.run(addresses)
        except DeviceMemoryError as error:
            raise DeviceMemoryError(self._out_of_memory(run.workspace_bytes, error)) from error
        return out if indices is None else (out, indices)

    def _out_of_memory(self, scratch_bytes: int, error: DeviceMemoryError) -> str:
        """What a call wanted, and the ways out."""
        result_bytes = prod(self._out_shape) * (
            self._out_dtype.itemsize + 8 * bool(self._has_indices)
        )
        ranked, _ = _candidates(self.problem, replace(self.policy, algorithm=None), self.device)
        smaller = [c.algorithm.name for c in ranked if c.program.workspace_bytes(1) < scratch_bytes]
        ways = "fewer images at a time, or write to an array of your own with out="
        if scratch_bytes:
            ways += f"; Policy(workspace_limit={scratch_bytes - 1}) allows less scratch memory"
        if smaller:
            ways += f", which {', '.join(smaller)} can do with"
        return (
            f"{error}. {self.problem} by {self.algorithm} wants {result_bytes} bytes for its "
            f"result and {scratch_bytes} bytes of scratch memory: take {ways}"
        )

    def launch(self, pointers: Sequence[int], *, prepared: bool = False) -> None:
        """Run on raw addresses: no checks, no array is made.

        Args:
            pointers: Addresses of the inputs, the output, then of bias and residual where the
                problem has them and of the indices where it returns them.
            prepared: The weights' address is that of prepared ones.

        Raises:
            UnsupportedProblem: The choice is the NumPy reference, which works on arrays.
        """
        if self.on_host:
            raise UnsupportedProblem(f"{self.algorithm} has no launches for {self.problem}")
        (self._prepared if prepared else self._plain).run(list(pointers))

    def _extra_addresses(self, given: dict[str, np.ndarray | None]) -> list[int]:
        wanted = {name for name, _, _ in self._extras}
        for name, array in given.items():
            if array is not None and name not in wanted:
                raise ValueError(f"{self.problem} takes no {name}; one of {array.shape} came")
        found = []
        for name, shape, dtype in self._extras:
            array = given[name]
            if array is None:
                raise ValueError(f"{self.problem} needs {name} of shape {shape}; none came")
            require(self.problem, name, array, shape, dtype)
            found.append(array_address(array))
        return found

    def _unpacked(self, weights: PreparedWeights) -> Any:
        """What prepared weights hold, which is this plan's to read."""
        own, data = self.weight_format, weights.data
        wanted = own.id if own else f"plain:{self.problem.w.order}"  # type: ignore[union-attr]
        if weights.format != wanted:
            raise ValueError(
                f"prepared weights have the format {weights.format!r}, but {self.algorithm} reads "
                f"{wanted!r} for {self.problem}: prepare them with this plan"
            )
        if own is not None:
            if data.__class__ is not np.ndarray or self.device or data.nbytes != own.nbytes:
                require_packed(self.device, self.problem, data, own.nbytes)
            return data
        name, shape, dtype = self._checks[1]
        if self.device is None:
            require(self.problem, name, data, shape, dtype)
        else:
            require_on(self.device, self.problem, name, data, shape, dtype)
        return data

    def _run_on_host(
        self,
        arrays: tuple[Any, ...],
        bias: np.ndarray | None,
        residual: np.ndarray | None,
        out: np.ndarray,
    ) -> Any:
        plain = [a.data if type(a) is PreparedWeights else a for a in arrays]
        given = dict(zip(self._inputs, plain, strict=True))
        given |= {"bias": bias, "residual": residual, self._output: out}
        if self._has_indices:
            given["indices"] = np.empty(self._out_shape, np.int64)
        for step in self.program.steps:
            step.kernel.function(self.problem, given)
        return (out, given["indices"]) if self._has_indices else out

    def explain(self) -> Explanation:
        """Every candidate with its predicted time, every refusal in words, and the choice."""
        ranked, rejected = _candidates(self.problem, self.policy, self.device)
        return Explanation(
            problem=self.problem,
            chosen=self.algorithm,
            candidates=tuple(ranked),
            rejected=tuple(rejected),
            workspace_bytes=self.workspace_bytes,
        )


_PLANS_KEPT = 4096
_DEFAULT = Policy()


def plan(
    problem: Problem | str, policy: Policy | None = None, device: Device | None = None
) -> Plan:
    """The best plan for a problem within a policy; made once and kept.

    Args:
        problem: A problem or its spelling, such as ``"fprop:f32:nhwc:n1c64h56w56_k64r3s3_p1x1"``.
        policy: Limits; the default allows every algorithm within its stated tolerance.
        device: The GPU that its arrays lie on; None is the CPU.

    Raises:
        UnsupportedProblem: No algorithm, or not the named one, can run it; lists every reason.
        ValueError: The spelling cannot be read, or the algorithm's name is unknown.
        TypeError: Not a problem, or not a policy.
    """
    if isinstance(problem, str):
        problem = parse(problem)
    if not isinstance(problem, Problem):
        raise TypeError(
            f"problem is a {type(problem).__name__}; wanted a ConvProblem, a PoolProblem or the "
            "spelling of one, such as 'fprop:f32:n1c64h56w56_k64r3s3_p1x1'"
        )
    if policy is None:
        policy = _DEFAULT
    elif not isinstance(policy, Policy):
        raise TypeError(
            f"policy is a {type(policy).__name__}; wanted a Policy, such as "
            "Policy(algorithm='conv_direct')"
        )
    return _plan(problem, policy, policy.threads or threads.get_num_threads(), device)


@lru_cache(maxsize=_PLANS_KEPT)
def _plan(problem: Problem, policy: Policy, num_threads: int, device: Device | None) -> Plan:
    """One plan for each question; the number of threads is part of it, for the workers differ."""
    ranked, rejected = _candidates(problem, policy, device)
    if not ranked:
        reasons = "; ".join(f"{name} ({reason})" for name, reason in rejected)
        raise UnsupportedProblem(f"no algorithm for {problem}: {reasons}")
    return Plan(problem, policy, ranked[0].algorithm, ranked[0].config, device)


def _candidates(
    problem: Problem, policy: Policy, device: Device | None
) -> tuple[list[Candidate], list[tuple[str, Rejected]]]:
    machine = _machine(policy, device)
    every = registry.algorithms(machine.device)
    named = registry.find(policy.algorithm, machine.device) if policy.algorithm else every
    able, rejected = [], []
    for algorithm in every:
        refusal: Rejected | None = None
        if algorithm not in named:
            refusal = Rejected(f"algorithm={policy.algorithm!r} was asked for")
        refusal = refusal or policy.allows(algorithm) or algorithm.supports(problem, machine)
        config = None
        if refusal is None:
            options = iter(algorithm.configs(problem, machine, policy.workspace_limit))
            config = next(options, _NONE)
            if config is _NONE:
                refusal = Rejected(
                    f"every configuration needs more than workspace_limit="
                    f"{policy.workspace_limit} bytes"
                )
        if refusal is None:
            able.append((algorithm, config))
        else:
            rejected.append((algorithm.name, refusal))
    ranked = rank(problem, able, machine, policy)
    if policy.batch_invariant and problem.N > 1 and problem.direction is not Direction.WGRAD:
        # Algorithms differ in their bits, so the one that is best for one image is for them all.
        alone = [c.algorithm for c in _candidates(replace(problem, N=1), policy, device)[0]]
        ranked.sort(key=lambda c: alone.index(c.algorithm) if c.algorithm in alone else len(alone))
    return ranked, rejected


_NONE = object()


def _rebuild(
    problem: Problem, policy: Policy, algorithm: str, config: Config, device: Device | None
) -> Plan:
    kind = _machine(policy, device).device
    return Plan(problem, policy, registry.find(algorithm, kind)[0], config, device)


def _machine(policy: Policy, device: Device | None) -> Machine:
    return machines.cpu(policy.threads) if device is None else device.machine


def _jitted_type() -> type:
    from numba.core.dispatcher import Dispatcher

    return Dispatcher  # type: ignore[no-any-return]
