"""The tape: what is recorded, how gradients flow, and errors that teach."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from convforge import Tensor, enable_grad, is_grad_enabled, no_grad
from convforge.autograd import Function


def leaf(*values, dtype=np.float32):
    return Tensor(np.array(values, dtype), requires_grad=True)


class Square(Function):
    def forward(self, x):
        self.x = x
        return x * x

    def backward(self, grad):
        return (2 * self.x * grad,)


def test_a_function_is_a_node_on_tensors_and_a_function_on_arrays():
    x = leaf(1, 2, 3)
    y = Square()(x)
    assert y.requires_grad
    assert not y.is_leaf
    y.backward(np.array([1, 10, 100], np.float32))
    np.testing.assert_array_equal(x.grad, [2, 40, 600])
    array = Square()(np.array([3.0]))
    assert type(array) is np.ndarray
    assert not Square()(Tensor(np.array([3.0]))).requires_grad


def test_gradients_of_several_paths_and_passes_add_up():
    x = leaf(3)
    y = x * x + x
    (y + y).sum().backward()
    np.testing.assert_array_equal(x.grad, [14])
    (x * 2).sum().backward()
    np.testing.assert_array_equal(x.grad, [16])


def test_a_diamond_is_gone_through_once():
    calls = []

    class Counted(Square):
        def backward(self, grad):
            calls.append(grad.copy())
            return super().backward(grad)

    x = leaf(1, 2)
    y = Counted()(x)
    (y * 3 + y.exp() * 0 + y).sum().backward()
    assert len(calls) == 1
    np.testing.assert_array_equal(calls[0], [4, 4])


def test_a_long_chain_needs_no_recursion():
    x = leaf(1)
    y = x
    for _ in range(5000):
        y = y + 1
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, [1])


def test_leaves_do_not_share_the_memory_of_their_gradients():
    a, b = leaf(1, 2), leaf(3, 4)
    (a + b).sum().backward()
    a.grad.data[...] = 7
    np.testing.assert_array_equal(b.grad, [1, 1])


def test_gradients_have_the_type_and_shape_of_their_leaf():
    a = leaf(1, 2)
    b = Tensor(np.ones((3, 1)), requires_grad=True)
    (a * b).sum().backward()
    assert a.grad.dtype == np.float32
    assert b.grad.dtype == np.float64
    assert (a.grad.shape, b.grad.shape) == ((2,), (3, 1))
    c = Tensor(np.array([1 + 1j]), requires_grad=True)
    (a * c).sum().backward(np.array(1 + 0j))
    assert a.grad.dtype == np.float32


def test_constants_and_integers_get_no_gradient():
    x, constant = leaf(1, 2), Tensor(np.ones(2, np.float32))
    (x * constant).sum().backward()
    assert constant.grad is None
    with pytest.raises(TypeError, match=r"a Tensor of int64 cannot require a gradient.*astype"):
        Tensor(np.arange(3), requires_grad=True)


def test_no_grad_is_of_its_thread_block_and_function():
    x = leaf(1)
    with no_grad():
        assert not is_grad_enabled()
        assert not (x * 2).requires_grad
        with enable_grad():
            assert (x * 2).requires_grad
        other = []
        thread = threading.Thread(target=lambda: other.append(is_grad_enabled()))
        thread.start()
        thread.join()
        assert other == [True]
    assert is_grad_enabled()

    @no_grad()
    def quiet(depth):
        assert not is_grad_enabled()
        return quiet(depth - 1) if depth else (x * 2).requires_grad

    assert quiet(3) is False
    assert is_grad_enabled()
    with pytest.raises(ZeroDivisionError), no_grad():
        raise ZeroDivisionError
    assert is_grad_enabled()


def test_detach_and_data_share_memory_and_know_nothing():
    x = leaf(1, 2)
    y = x * 2
    assert not y.detach().requires_grad
    assert y.detach().is_leaf
    assert np.shares_memory(y.detach().data, y.data)
    assert np.shares_memory(x.numpy(), x.data)


def test_a_leaf_is_written_under_no_grad_and_by_assignment():
    x = leaf(1, 2)
    with no_grad():
        x.data[...] = [3, 4]
        x.data -= 1
        x.copy_(np.array([5, 6]))
    np.testing.assert_array_equal(x, [5, 6])
    assert x.requires_grad
    with pytest.raises(ValueError, match=r"value has shape \(3,\); wanted \(2,\)"):
        x.copy_(np.zeros(3))


def test_backward_of_more_than_one_number_wants_a_gradient():
    x = leaf(1, 2)
    with pytest.raises(RuntimeError, match=r"shape \(2,\).*needs a gradient.*sum\(\)\.backward"):
        (x * 2).backward()
    with pytest.raises(ValueError, match=r"grad has shape \(3,\); wanted \(2,\)"):
        (x * 2).backward(np.zeros(3))
    (x * 2).backward(Tensor(np.ones(2)))
    np.testing.assert_array_equal(x.grad, [2, 2])
    single = x[:1] * 2
    single.backward()


def test_a_second_backward_is_explained():
    x = leaf(1, 2)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    np.testing.assert_array_equal(x.grad, [4, 8])
    with pytest.raises(RuntimeError, match=r"went through <Sum> before.*retain_graph=True"):
        y.backward()


def test_backward_of_what_was_not_recorded_is_explained():
    with pytest.raises(RuntimeError, match=r"no way back.*requires_grad=True.*no_grad"):
        Tensor(np.ones(1)).backward()
    with no_grad():
        y = leaf(1) * 2
    with pytest.raises(RuntimeError, match="no way back"):
        y.backward()


def test_overwriting_what_backward_reads_is_noticed():
    x = leaf(1, 2)
    y = (x * x).sum()
    x.copy_(np.zeros(2))
    with pytest.raises(RuntimeError, match=r"a leaf of shape \(2,\) was written to after <Mul>"):
        y.backward()
    z = (x + 1).sum()
    x.copy_(np.ones(2))
    z.backward()  # an addition reads nothing
    np.testing.assert_array_equal(x.grad, [1, 1])


def test_a_wrong_backward_is_reported_by_its_name():
    class Wrong(Square):
        def backward(self, grad):
            return (grad[:1],)

    class TooMany(Square):
        def backward(self, grad):
            return grad, grad

    with pytest.raises(RuntimeError, match=r"<Wrong>\.backward gave a gradient of shape \(1,\)"):
        Wrong()(leaf(1, 2)).backward(np.ones(2))
    with pytest.raises(RuntimeError, match=r"<TooMany>\.backward gave 2 gradients for 1 operands"):
        TooMany()(leaf(1, 2)).backward(np.ones(2))


def test_what_a_node_kept_is_dropped_after_backward():
    y = Square()(leaf(1, 2))
    node = y._maker
    assert node.x is not None
    y.backward(np.ones(2))
    assert not hasattr(node, "x")


def test_threads_record_apart():
    results = []

    def work(value):
        x = leaf(value)
        for _ in range(50):
            x.grad = None
            (x * x).sum().backward()
        results.append(x.grad.item() == 2 * value)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 4


def test_a_leaf_keeps_a_gradient_that_was_made_for_it_and_copies_another():
    gradients = np.ones(2, np.float32)

    class Handed(Square):
        def backward(self, grad):
            return (gradients,)

    class Made(Handed):
        makes_gradients = True

    x, y = leaf(1, 2), leaf(1, 2)
    Handed()(x).sum().backward()
    Made()(y).sum().backward()
    assert not np.shares_memory(x.grad.numpy(), gradients)
    assert np.shares_memory(y.grad.numpy(), gradients)
    Made()(y).sum().backward()
    np.testing.assert_array_equal(y.grad, [2, 2])
    np.testing.assert_array_equal(gradients, [1, 1])
