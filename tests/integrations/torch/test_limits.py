"""What must not go wrong silently: tangents, copies in threads, tensors of two devices."""

import copy
import threading

import pytest

torch = pytest.importorskip("torch")
import torch.autograd.forward_ad as forward_ad  # noqa: E402
import torch.nn.functional as F  # noqa: E402

import convforge.torch as ct  # noqa: E402


def images(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: ct.conv2d(x, images(3, 4, 3, 3)),
        lambda x: ct.max_pool2d(x, 2),
        lambda x: ct.avg_pool2d(x, 2),
        lambda x: ct.linear(x, images(5, 6)),
    ],
)
def test_a_tangent_that_meets_a_gradient_is_an_error_and_not_lost(function):
    x = images(2, 4, 6, 6).requires_grad_()
    y = function(x)
    with forward_ad.dual_level():
        dy = forward_ad.make_dual(torch.ones_like(y), torch.ones_like(y))
        with pytest.raises(NotImplementedError, match="forward-mode derivatives of a gradient"):
            torch.autograd.grad(y, x, dy)


def test_an_optimised_model_refuses_tangents():
    x = images(1, 3, 8, 8)
    model = ct.optimize(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3)).eval(), x)
    with forward_ad.dual_level(), pytest.raises(RuntimeError, match="no derivatives"):
        model(forward_ad.make_dual(x, torch.ones_like(x)))


def test_an_input_may_change_where_no_gradient_reads_it():
    x = images(3, 6).requires_grad_() * 1
    y = ct.linear(x, images(2, 6))
    x.add_(1)
    y.sum().backward()


def test_tensors_of_two_devices_are_left_to_pytorch():
    ct.report().clear()
    with pytest.raises(RuntimeError):
        indices = torch.zeros(1, 1, 2, 2, dtype=torch.int64, device="meta")
        ct.max_unpool2d(images(1, 1, 2, 2), indices, 2)
    assert "cpu and meta" in str(ct.report())


def test_frozen_copies_in_threads_have_weights_of_their_own():
    layer = ct.convert(torch.nn.Conv2d(8, 8, 3), freeze=True).eval()
    x, wrong = images(1, 8, 10, 10), []
    copies = [copy.copy(layer) for _ in range(2)]
    for i, each in enumerate(copies):
        each._parameters = {
            name: torch.nn.Parameter(value + i) for name, value in layer._parameters.items()
        }

    def run(each):
        with torch.no_grad():
            wanted = F.conv2d(x, each.weight, each.bias)
            for _ in range(300):
                if not torch.allclose(each(x), wanted, atol=1e-3):
                    wrong.append(each)

    threads = [threading.Thread(target=run, args=(each,)) for each in copies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
