"""Tensor as an array: operators, shapes, copies."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from convforge import Tensor
from convforge.testing import peers


def leaf(*shape):
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    return Tensor(values, requires_grad=True)


def test_arrays_come_in_without_a_copy_and_lists_are_refused():
    array = np.zeros((2, 3), np.float32)
    assert Tensor(array).data is array
    assert Tensor(Tensor(array)).data is array
    with pytest.raises(TypeError, match=r"data is of type list; .*np\.asarray"):
        Tensor([1.0, 2.0])


def test_attributes_are_those_of_the_array():
    x = leaf(2, 3)
    assert (x.shape, x.ndim, x.size, len(x), x.dtype) == ((2, 3), 2, 6, 2, np.float32)
    assert x[1, 2].item() == 5.0
    assert float(x[0, 1]) == 1.0
    assert bool(x[0, 1])
    assert [row.shape for row in x] == [(3,), (3,)]


def test_an_array_on_the_left_is_recorded_too():
    x, array = leaf(3), np.ones(3, np.float32)
    for y in (array + x, array - x, array * x, array / (x + 1), np.ones((2, 3), "f") @ x):
        assert isinstance(y, Tensor)
        assert y.requires_grad


def test_numbers_keep_the_type():
    x = leaf(3)
    for y in (x + 1, 2 * x, x / 3.0, np.float64(0.5) * x, x - np.int64(1), -x, x**2, x.mean()):
        assert y.dtype == np.float32


def test_numpy_reads_a_tensor():
    x = leaf(2, 2)
    assert np.shares_memory(np.asarray(x), x.data)
    assert np.array(x, np.float64).dtype == np.float64
    np.testing.assert_array_equal(x, [[0, 1], [2, 3]])


def test_dlpack_lends_the_memory_of_what_is_not_recorded():
    data = np.arange(6.0).reshape(2, 3)
    x = Tensor(data)
    assert x.__dlpack_device__() == data.__dlpack_device__()
    assert np.shares_memory(np.from_dlpack(x), data)
    with pytest.raises(BufferError, match=r"pass tensor\.detach\(\)"):
        np.from_dlpack(x.requires_grad_())
    assert np.shares_memory(np.from_dlpack(x.detach()), data)


@pytest.mark.peer
def test_torch_reads_a_tensor():
    torch = peers.require("torch")
    x = Tensor(np.arange(6.0))
    torch.from_dlpack(x)[0] = 7
    assert x.data[0] == 7


def test_comparisons_are_elementwise_and_sets_go_by_identity():
    x = leaf(2, 2)
    y = x == np.array([[0, 9], [2, 9]])
    assert isinstance(y, Tensor)
    np.testing.assert_array_equal(y, [[True, False], [True, False]])
    assert y.mean().item() == 0.5
    for compared, wanted in ((x != 0, 3), (x < 2, 2), (x <= 2, 3), (x > 2, 1), (x >= x, 4)):
        assert compared.sum().item() == wanted
    assert len({x, leaf(2, 2), x}) == 2
    assert x.argmax().item() == 3
    np.testing.assert_array_equal(x.argmax(1) == np.array([1, 1]), [True, True])


def test_reshape_spellings():
    x = leaf(2, 3, 4)
    assert x.reshape(6, 4).shape == x.reshape((6, -1)).shape == (6, 4)
    assert x.reshape(-1).shape == x.flatten().shape == (24,)
    assert x.flatten(1).shape == (2, 12)
    assert x.permute(2, 0, 1).shape == x.permute((2, 0, 1)).shape == (4, 2, 3)
    assert x.transpose(-1, 0).shape == (4, 3, 2)


def test_repr_shows_values_type_and_history():
    assert repr(Tensor(np.ones(2, np.float32))) == "Tensor([1., 1.])"
    assert repr(Tensor(np.ones(1))) == "Tensor([1.], dtype=float64)"
    assert repr(leaf(2)) == "Tensor([0., 1.], requires_grad=True)"
    assert repr(leaf(2) + 1) == "Tensor([1., 2.], made_by=<Add>)"


def test_leaves_are_copied_and_pickled():
    x = leaf(3)
    (x * x).sum().backward()
    for twin in (copy.deepcopy(x), pickle.loads(pickle.dumps(x)), copy.copy(x)):
        assert twin.requires_grad
        np.testing.assert_array_equal(twin, x)
        np.testing.assert_array_equal(twin.grad, x.grad)
        twin.data[...] = 9
        assert x.data[0] == 0
    with pytest.raises(RuntimeError, match=r"made by <Add> cannot be copied.*detach"):
        copy.deepcopy(x + 1)


def test_requires_grad_is_changed_on_leaves_only():
    x = leaf(2)
    x.requires_grad_(False)
    assert not (x * 2).requires_grad
    y = leaf(2) * 2
    with pytest.raises(RuntimeError, match="only a leaf can stop requiring a gradient"):
        y.requires_grad_(False)


def test_an_exponent_is_a_number():
    with pytest.raises(TypeError, match=r"the exponent is .*; wanted a number"):
        leaf(2) ** leaf(2)
