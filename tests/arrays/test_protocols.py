"""Arrays of other libraries come in without a copy, and results go back to them."""

from __future__ import annotations

import numpy as np
import pytest

from convforge.arrays import as_array, as_numpy, home_of
from convforge.testing import peers


class Interface:
    """Something that speaks ``__array_interface__`` and nothing else."""

    def __init__(self, array):
        self.array = array
        self.__array_interface__ = array.__array_interface__


class Standard:
    """An array of the array API standard."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **keywords):
        return self.array.__dlpack__(**keywords)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    def __array_namespace__(self):
        class Namespace:
            asarray = Standard

        return Namespace


class OnDevice:
    def __dlpack__(self, **keywords):
        raise AssertionError("must not be asked")

    def __dlpack_device__(self):
        return 2, 0


class CudaInterface:
    __cuda_array_interface__ = {}  # noqa: RUF012


def test_numpy_arrays_are_themselves(tmp_path):
    array = np.zeros((2, 3), np.float32)
    assert as_numpy(array, "x") is array
    assert home_of(array)(array) is array
    mapped = np.memmap(tmp_path / "array", np.float32, "w+", shape=(2, 3))
    assert type(as_numpy(mapped, "x")) is np.ndarray
    assert np.shares_memory(as_numpy(mapped, "x"), mapped)


@pytest.mark.parametrize("wrap", [Interface, Standard])
def test_protocols_share_memory(wrap):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)[:, ::2]
    seen = as_numpy(wrap(array), "x")
    np.testing.assert_array_equal(seen, array)
    assert np.shares_memory(seen, array)


def test_results_go_back_by_the_standards_own_function():
    result = np.ones(3, np.float32)
    assert type(home_of(Standard(result))(result)) is Standard
    assert home_of(Interface(result))(result) is result


@pytest.mark.parametrize("value", [[1.0, 2.0], (1, 2), 3.0, None, "x", {"a": 1}])
def test_other_things_are_refused_with_the_way_out(value):
    with pytest.raises(TypeError, match=r"weight is of type .*np\.asarray\(weight"):
        as_numpy(value, "weight")


def test_masked_arrays_are_refused():
    with pytest.raises(TypeError, match=r"input is a masked array.*input\.filled"):
        as_numpy(np.ma.masked_array([1.0], [True]), "input")


@pytest.mark.parametrize("value", [OnDevice(), CudaInterface()])
def test_device_memory_is_refused_with_the_way_out(value):
    with pytest.raises(TypeError, match=r"input is a .*device.*\.get\(\)"):
        as_numpy(value, "input")


@pytest.mark.peer
def test_torch_tensors_share_memory_both_ways():
    torch = peers.require("torch")
    for tensor in (
        torch.arange(24.0).reshape(2, 3, 4),
        torch.arange(24.0).reshape(1, 2, 3, 4).to(memory_format=torch.channels_last),
        torch.arange(6, dtype=torch.int8),
        torch.zeros((0, 3)),
    ):
        seen = as_numpy(tensor, "x")
        np.testing.assert_array_equal(seen, tensor.numpy())
        assert seen.size == 0 or np.shares_memory(seen, tensor.numpy())
        back = home_of(tensor)(seen)
        assert torch.equal(back, tensor)
        assert back.numel() == 0 or back.stride() == tensor.stride()


@pytest.mark.peer
def test_torch_bfloat16_and_conjugates():
    torch = peers.require("torch")
    tensor = torch.tensor([1.5, -2.0], dtype=torch.bfloat16)
    seen = as_numpy(tensor, "x")
    assert seen.dtype.name == "bfloat16"
    assert torch.equal(home_of(tensor)(seen), tensor)
    conjugate = torch.tensor([1 + 2j]).conj()
    np.testing.assert_array_equal(as_numpy(conjugate, "x"), [1 - 2j])


@pytest.mark.peer
def test_torch_tensors_in_a_graph_are_refused_unless_gradients_are_off():
    torch = peers.require("torch")
    tensor = torch.zeros(3, requires_grad=True)
    with pytest.raises(TypeError, match=r"x is a torch tensor that requires grad.*detach"):
        as_numpy(tensor, "x")
    with torch.no_grad():
        assert as_numpy(tensor, "x").shape == (3,)
    with pytest.raises(TypeError, match=r"x is a torch tensor on meta"):
        as_numpy(torch.zeros(3, device="meta"), "x")
    # DLPack has no number for this place, and PyTorch raises instead of giving one.
    with pytest.raises(TypeError, match=r"x is a torch tensor on meta"):
        as_array(torch.zeros(3, device="meta"), "x")


def test_types_that_dlpack_has_no_name_for_come_as_arrays():
    class Foreign:
        data = np.arange(3, dtype=">f4")

        def __dlpack_device__(self):
            return (1, 0)

        def __dlpack__(self, **keywords):
            return self.data.__dlpack__(**keywords)

    with pytest.raises(BufferError):
        as_numpy(Foreign(), "x")
    Foreign.__array__ = lambda self, dtype=None, copy=None: self.data
    assert as_numpy(Foreign(), "x") is Foreign.data
