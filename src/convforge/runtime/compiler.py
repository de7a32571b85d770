"""Numba's compiler without what kernels have no use for.

A *part* is a function that only kernels and other parts call. Numba would optimise it and make
machine code that nothing runs; a part stays intermediate code, which the kernels that call it
link, optimise and compile.
"""

from __future__ import annotations

from typing import Any

from llvmlite import binding
from numba import _dynfunc
from numba.core import types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, CompileResult, DefaultPassBuilder
from numba.core.compiler_machinery import PassManager, register_pass
from numba.core.generators import GeneratorDescriptor
from numba.core.typed_passes import InlineOverloads, NativeLowering, NopythonRewrites
from numba.core.untyped_passes import InlineClosureLikes


class _Library(JITCodeLibrary):  # type: ignore[misc]  # Numba ships no types
    """Intermediate code of a part."""

    @classmethod
    def from_bitcode(cls, codegen: Any, name: str, bitcode: bytes) -> _Library:
        self = cls(codegen, name)
        self._final_module = self._shared_module = binding.parse_bitcode(bitcode)
        self._finalize_final_module()
        return self

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True

    def serialize_using_object_code(self) -> tuple[str, bytes]:
        self._ensure_finalized()
        return self.name, self._get_module_for_linking().as_bitcode()


def _entry(library: _Library, description: Any, environment: Any) -> Any:
    """What Numba finds a part by: a function object that nobody calls."""
    module, name = description.lookup_module(), description.qualname.rpartition(".")[2]
    return _dynfunc.make_function(module, name, "", 0, environment, (library,))


@register_pass(mutates_CFG=True, analysis_only=False)
class _PartLowering(NativeLowering):  # type: ignore[misc]
    _name = "part_lowering"

    def run_pass(self, state: Any) -> bool:
        state.library = _Library(state.targetctx.codegen(), state.func_id.func_qualname)
        state.flags.no_compile = True
        super().run_pass(state)
        lowered = state["cr"]
        entry = _entry(state.library, lowered.fndesc, lowered.env)
        state.targetctx.insert_user_function(entry, lowered.fndesc, [state.library])
        state["cr"] = lowered._replace(cfunc=entry)
        return True


class _Passes(PassManager):  # type: ignore[misc]
    """Runs passes without analysing their result anew after each."""

    _ENFORCING = False


_NEEDLESS = (InlineClosureLikes, InlineOverloads, NopythonRewrites)
"""Passes over closures, the inlining overloads of others, and expressions of arrays."""


class KernelCompiler(CompilerBase):  # type: ignore[misc]
    """Compiles what is called from outside: kernels by their address, others from Python."""

    lowering = NativeLowering

    def define_pipelines(self) -> list[Any]:
        """Numba's passes without the needless ones."""
        passes = _Passes("kernel")
        for kind, purpose in DefaultPassBuilder.define_nopython_pipeline(self.state).passes:
            if kind not in _NEEDLESS:
                passes.add_pass(self.lowering if kind is NativeLowering else kind, purpose)
        passes.finalize()
        return [passes]


class PartCompiler(KernelCompiler):
    """Compiles parts."""

    lowering = _PartLowering


def rebuild_part(target: Any, payload: Any) -> Any:
    """A part from what its ``CompileResult`` was reduced to."""
    code, description, environment, signature, _, lifted, annotation, reload, referenced = payload
    library = _Library.from_bitcode(target.codegen(), *code)
    result = description.restype
    if isinstance(result, types.Generator):
        following = GeneratorDescriptor.from_generator_fndesc(
            None, description, result, target.mangler
        )
        target.insert_generator(result, following, [library])
    return CompileResult(
        target_context=target,
        typing_context=target.typing_context,
        library=library,
        environment=environment,
        entry_point=_entry(library, description, environment),
        fndesc=description,
        type_annotation=annotation,
        signature=signature,
        objectmode=False,
        lifted=lifted,
        typing_error=None,
        call_helper=None,
        metadata=None,
        reload_init=reload,
        referenced_envs=referenced,
    )
