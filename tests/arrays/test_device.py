"""Arrays in a device's memory, from the public functions to the kernels and back."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest

from convforge import Tensor, ops
from convforge import functional as F
from convforge.functional.lp_pooling import _LpPool, _Magnitude
from convforge.plan import Policy, PreparedWeights, UnsupportedProblem, plan
from convforge.problem import PoolKind

try:
    from convforge.testing.device import EmulatedArray, emulated_device, missing
except ImportError as error:
    pytest.skip(f"no GPU leg: {error}", allow_module_level=True)
if missing():
    pytest.skip(f"no GPU leg: {missing()}", allow_module_level=True)


@pytest.fixture(scope="module")
def device():
    with emulated_device() as found:
        yield found


def whole(*shape, dtype=np.float32, seed=0):
    """Small integers, whose sums nothing rounds."""
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(dtype)


def same(device, call, *arrays, **keywords):
    """Compare a call on the device with the same call on the host; returns the device's result."""
    before = len(device.launches)
    got = call(*map(device.asarray, arrays), **keywords)
    assert len(device.launches) == before + 1
    want = call(*arrays, **keywords)
    np.testing.assert_array_equal(got.get(), want)
    assert got.get().dtype == want.dtype
    return got


CALLS = {
    "conv1d": (lambda x, w: F.conv1d(x, w, padding=1, dilation=2), (2, 4, 17), (6, 4, 3)),
    "conv2d": (lambda x, w: F.conv2d(x, w, stride=2, groups=2), (2, 4, 9, 8), (6, 2, 3, 2)),
    "conv3d": (lambda x, w: F.conv3d(x, w, padding="same"), (1, 2, 4, 5, 6), (3, 2, 3, 3, 3)),
    "one image": (lambda x, w: F.conv2d(x, w, activation="relu"), (4, 9, 8), (6, 4, 3, 2)),
    "no image": (lambda x, w: F.conv2d(x, w), (0, 4, 9, 8), (6, 4, 3, 2)),
    "transposed": (
        lambda x, w: F.conv_transpose2d(x, w, stride=2, output_padding=1),
        (2, 4, 5, 6),
        (4, 3, 3, 3),
    ),
    "bias": (lambda x, w, b: F.conv2d(x, w, b), (1, 3, 6, 6), (5, 3, 3, 3), (5,)),
    "max": (lambda x: F.max_pool2d(x, 3, 2, 1), (2, 5, 9, 8)),
    "max1d": (lambda x: F.max_pool1d(x, 3, dilation=2), (2, 5, 19)),
    "avg": (lambda x: F.avg_pool2d(x, 2), (2, 5, 9, 8)),
    "adaptive": (lambda x: F.adaptive_max_pool2d(x, (3, 4)), (2, 5, 9, 10)),
    "gradient of images": (
        lambda dy, w: ops.conv_dgrad(ops.conv_arguments(2, 2, 1, 1, 1), dy, w, (2, 3, 9, 9)),
        (2, 4, 5, 5),
        (4, 3, 3, 3),
    ),
    "gradient of weights": (
        lambda x, dy: ops.conv_wgrad(ops.conv_arguments(2, 2, 1, 1, 1), x, dy, (4, 3, 3, 3)),
        (2, 3, 9, 9),
        (2, 4, 5, 5),
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_public_functions_run_on_the_device(device, name):
    call, *shapes = CALLS[name]
    arrays = [whole(*shape, seed=i) for i, shape in enumerate(shapes)]
    if 0 in shapes[0]:
        assert call(*map(device.asarray, arrays)).shape == (0, 6, 7, 7)
    else:
        same(device, call, *arrays)


def test_memory_order_follows_the_input(device):
    x, w = whole(2, 7, 9, 5), whole(6, 5, 3, 3)
    y = same(device, lambda x, w: F.conv2d(x, w, layout="nhwc"), x, w)
    assert y.flags.c_contiguous and y.shape == (2, 5, 7, 6)
    view = F.conv2d(device.asarray(x).transpose(0, 3, 1, 2), device.asarray(w))
    assert view.shape == (2, 6, 5, 7) and view.transpose(0, 2, 3, 1).flags.c_contiguous
    np.testing.assert_array_equal(view.get().transpose(0, 2, 3, 1), y.get())


def test_strided_views_are_copied_on_the_device(device):
    x, w = whole(2, 5, 14, 18), whole(6, 5, 3, 3)
    y = F.conv2d(device.asarray(x)[:, :, ::2, ::-2], device.asarray(w))
    np.testing.assert_array_equal(y.get(), F.conv2d(x[:, :, ::2, ::-2], w))


def test_out_residual_and_indices(device):
    x, w, r = whole(1, 3, 6, 6), whole(4, 3, 3, 3), whole(1, 4, 4, 4)
    out = device.adopt(np.full((1, 4, 4, 8), np.nan, np.float32))[..., ::2]
    args = map(device.asarray, (x, w))
    assert F.conv2d(*args, residual=device.asarray(r), activation="relu", out=out) is out
    np.testing.assert_array_equal(out.get(), F.conv2d(x, w, residual=r, activation="relu"))
    y, places = F.max_pool2d(device.asarray(x), 2, return_indices=True)
    want, where = F.max_pool2d(x, 2, return_indices=True)
    np.testing.assert_array_equal(y.get(), want)
    np.testing.assert_array_equal(places.get(), where)


def test_a_name_means_the_same_algorithm_on_every_device(device):
    x, w = device.asarray(whole(1, 3, 6, 6)), device.asarray(whole(4, 3, 3, 3))
    F.conv2d(x, w, algorithm="conv_direct")
    assert device.launches[-1] == "conv_direct_gather"
    with pytest.raises(ValueError, match=r"cpu\.conv_direct.*unknown.*cuda_numba\.conv_direct"):
        F.conv2d(x, w, algorithm="cpu.conv_direct")


@pytest.mark.parametrize(
    ("norm", "dtype"),
    [*((norm, np.float64) for norm in (1, 3, 0.5, 1.5, np.inf)), (2, np.float16)],
)
def test_power_means_and_their_gradients_run_on_the_device(device, norm, dtype):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 9, 8, 5)).astype(dtype)
    x = np.abs(x) if norm in (0.5, 1.5) else x
    x.flat[:3] = 0, np.inf, np.nan
    tolerance = {np.float64: 1e-12, np.float16: 4e-3}[dtype]
    for settings in ((2,), (3, 2, True), ((2, 3), 1)):
        if dtype == np.float16 and settings != (3, 2, True):
            continue
        x = np.moveaxis(x, 3, 1)  # channels last, then not dense, then channels last
        y = F.lp_pool2d(device.asarray(x), norm, *settings)
        wide = Tensor(x.astype(np.float64), requires_grad=True)
        wanted = F.lp_pool2d(wide, norm, *settings)
        np.testing.assert_allclose(y.get(), wanted, rtol=tolerance, atol=1e-14)
        assert y.dtype == dtype
        if norm == np.inf:
            continue
        args = ops.pool_arguments(PoolKind.AVG, 2, *settings[:2], ceil_mode=settings[2:] == (True,))
        node = _LpPool(args, norm, scaled=args.ceil_mode)
        node.needs = (True,)
        node.forward(device.asarray(x))
        dy = rng.standard_normal(y.shape).astype(dtype)
        wanted.backward(dy.astype(np.float64))
        (dx,) = node.backward(device.asarray(dy))
        want = wide.grad.numpy()
        scale = np.abs(want[np.isfinite(want)]).max()
        np.testing.assert_allclose(dx.get(), want, rtol=tolerance, atol=tolerance * scale)


def test_magnitudes_and_their_gradients_run_on_the_device(device):
    x = np.array([[3, -2, 0], [-0.0, np.nan, -np.inf]], np.float32).T
    node = _Magnitude()
    np.testing.assert_array_equal(node.forward(device.asarray(x)).get(), np.abs(x))
    dy = np.arange(1, 7, dtype=np.float32).reshape(3, 2)
    (dx,) = node.backward(device.asarray(dy))
    np.testing.assert_array_equal(dx.get(), dy * np.sign(x))


def test_what_no_kernel_of_the_device_does_is_refused_and_not_moved(device):
    x, w = whole(1, 3, 6, 6, dtype=np.int32), whole(4, 3, 3, 3, dtype=np.int32)
    with pytest.raises(UnsupportedProblem, match=r"cuda_numba\.conv_direct \(types i32"):
        F.conv2d(device.asarray(x), device.asarray(w))


@pytest.mark.parametrize("on_host", ["input", "weight", "bias", "residual", "out"])
def test_host_and_device_are_never_mixed(device, on_host):
    shapes = {
        "input": (1, 3, 6, 6),
        "weight": (4, 3, 3, 3),
        "bias": (4,),
        "residual": (1, 4, 4, 4),
        "out": (1, 4, 4, 4),
    }
    arrays = {name: whole(*shape) for name, shape in shapes.items()}
    given = {name: a if name == on_host else device.asarray(a) for name, a in arrays.items()}
    before = len(device.launches)
    with pytest.raises(TypeError, match=r"in host memory.*never moved silently"):
        F.conv2d(**given)
    assert len(device.launches) == before


def test_two_devices_are_never_mixed(device):
    with emulated_device() as other, pytest.raises(TypeError, match="never moved silently"):
        F.conv2d(device.asarray(whole(1, 3, 6, 6)), other.asarray(whole(4, 3, 3, 3)))


def test_out_must_be_memory_of_its_own(device):
    x, w = device.asarray(whole(1, 3, 6, 6)), device.asarray(whole(3, 3, 1, 1))
    with pytest.raises(ValueError, match="out shares memory with input"):
        F.conv2d(x, w, out=x)
    run = plan("fprop:f32:n1c3h6w6_k3r1s1", None, device)
    with pytest.raises(ValueError, match="out overlaps an input"):
        run(x, w, out=x)


def test_operators_of_the_host_say_so(device):
    with pytest.raises(TypeError, match="in the memory of a device; this operator runs on the CPU"):
        F.pad(device.asarray(whole(3)), (1, 1))
    with pytest.raises(TypeError, match="in the memory of a device"):
        np.asarray(device.asarray(whole(3)))


def test_unaligned_and_swapped_arrays_are_refused(device):
    x, w = whole(1, 3, 6, 6), whole(4, 3, 3, 3)
    memory = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    assert not memory.flags.aligned
    with pytest.raises(ValueError, match="x is not aligned"):
        F.conv2d(device.adopt(memory), device.asarray(w))
    with pytest.raises(TypeError, match=r"x has dtype >f4.*native byte order"):
        F.conv2d(device.asarray(x.astype(">f4")), device.asarray(w))


def test_operands_follow_the_post_ops(device):
    run = plan("fprop:f32:n1c3h6w6_k4r3s3_p1x1+residual+bias", None, device)
    x, w, b, r = (whole(*s) for s in ((1, 3, 6, 6), (4, 3, 3, 3), (4,), (1, 4, 6, 6)))
    y = run(*map(device.asarray, (x, w)), bias=device.asarray(b), residual=device.asarray(r))
    np.testing.assert_array_equal(y.get(), F.conv2d(x, w, b, padding=1) + r)


PLAN = "fprop:f32:n2c5h7w9_k6r3s3_p1x1+bias"


def test_a_plan_checks_what_it_gets(device):
    run = plan(PLAN, None, device)
    x, w, b = (whole(*s) for s in ((2, 5, 7, 9), (6, 5, 3, 3), (6,)))
    x, w, b = map(device.asarray, (x, w, b))
    with pytest.raises(TypeError, match="x is a ndarray; wanted one of emulated:0"):
        run(x.get(), w, bias=b)
    with pytest.raises(ValueError, match="w has shape"):
        run(x, x, bias=b)
    with pytest.raises(TypeError, match="dtype float64"):
        run(device.asarray(x.get().astype(float)), w, bias=b)
    with pytest.raises(ValueError, match="needs a bias"):
        run(x, w)
    with pytest.raises(ValueError, match="takes no residual"):
        run(x, w, bias=b, residual=x)
    with pytest.raises(ValueError, match="not C-contiguous"):
        run(x.transpose(0, 1, 2, 3)[:, :, :, ::-1], w, bias=b)
    assert run.on_host is False and "cuda_numba.conv_direct" in str(run.explain())
    prepared = run.prepare(w)
    np.testing.assert_array_equal(run(x, prepared, bias=b).get(), run(x, w, bias=b).get())


@pytest.mark.parametrize("algorithm", ["conv_direct", "conv_winograd3x3*"])
def test_weights_are_prepared_where_they_are_read(device, algorithm):
    policy = Policy(algorithm=algorithm)
    x, w, b = (whole(*s) for s in ((2, 5, 7, 9), (6, 5, 3, 3), (6,)))
    there = tuple(map(device.asarray, (x, w, b)))
    on_device, on_host = plan(PLAN, policy, device), plan(PLAN, policy)
    here = on_host.prepare(w)
    prepared = on_device.prepare(there[1])

    def labelled(run, weights):
        """Weights of the other place, under the name of the format that a plan reads."""
        return PreparedWeights(run.prepare(w if run is on_host else there[1]).format, weights.data)

    with pytest.raises(TypeError, match=r"is a ndarray; wanted one of|hold a ndarray; wanted"):
        on_device(there[0], labelled(on_device, here), bias=there[2])
    with pytest.raises(TypeError, match=r"is a EmulatedArray; wanted|hold a EmulatedArray; wanted"):
        on_host(x, labelled(on_host, prepared), bias=b)
    wrong = PreparedWeights(prepared.format, device.copy(prepared.data[:2]))
    with pytest.raises(ValueError, match=r"w has shape|bytes; wanted"):
        on_device(there[0], wrong, bias=there[2])
    wider = plan(PLAN.replace("k6", "k8"), policy, device)
    with pytest.raises(ValueError, match=r"w has shape|have the format"):
        wider(there[0], prepared, bias=device.asarray(whole(8)))


def test_spectra_of_filters_say_whose_they_are(device):
    texts = (
        "fprop:f32:n1c4h20w20_k4r5s5",
        "fprop:f32:n1c4h20w20_k2r5s5_g2",
        "fprop:f32:n1c2h20w20_k4r5s5",
        "fprop:f32:n1c4h20w20_k4r3s3",
        "dgrad:f32:n1c4h20w20_k4r5s5",
    )
    policy = Policy(algorithm="conv_fft")
    formats = [plan(text, policy, device).weight_format.id for text in texts]
    assert len(set(formats)) == len(texts), formats
    larger = plan(texts[0].replace("n1", "n3"), policy, device)
    assert larger.weight_format.id == formats[0]


def test_plans_launch_from_several_threads(device):
    run = plan(PLAN, Policy(threads=1), device)
    w, b = device.asarray(whole(6, 5, 3, 3)), device.asarray(whole(6))
    wrong = []

    def work(seed):
        x = whole(2, 5, 7, 9, seed=seed)
        want = F.conv2d(x, w.get(), b.get(), padding=1)
        for _ in range(5):
            y = run(device.asarray(x), w, bias=b)
            if not np.array_equal(y.get(), want):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=[i]) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_numpy_stays_as_quick_as_it_was():
    """The host's calls do not load the machinery of devices."""
    assert "convforge.arrays.cupy_" not in sys.modules or "cupy" in sys.modules
    assert not isinstance(F.relu(whole(3)), EmulatedArray)
