from __future__ import annotations

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

import convforge.cli.demo as demo_package
from convforge import registry
from convforge.bench.timer import Timing
from convforge.cli.app import app
from convforge.cli.demo import algorithms, digits, filters
from convforge.problem import parse

PNG = b"\x89PNG"


@pytest.fixture
def screen():
    return Console(width=150, record=True, quiet=True)


def test_filters_keep_or_cancel_brightness():
    grey = np.full((9, 11, 3), 0.5, np.float32)
    maps = dict(zip(filters.FILTERS, filters.feature_maps(grey), strict=True))
    for name, expected in (("blur", 0.5), ("sharpen", 0.5), ("emboss", 0.5)):
        np.testing.assert_allclose(maps[name], expected, atol=1e-6)
    for name in ("horizontal edges", "vertical edges"):
        np.testing.assert_allclose(maps[name], 0, atol=1e-6)


def test_edges_are_found_where_they_are():
    step = np.zeros((9, 12, 3), np.float32)
    step[:, 6:] = 1
    maps = dict(zip(filters.FILTERS, filters.feature_maps(step), strict=True))
    assert np.abs(maps["horizontal edges"]).max() < 1e-6
    columns = np.flatnonzero(maps["vertical edges"].max(axis=(0, 2)))
    assert columns.tolist() == [5, 6]
    assert maps["vertical edges"].shape == step.shape


def test_the_photograph_becomes_a_picture(screen, tmp_path):
    (path,) = filters.run(screen, tmp_path)
    assert path.read_bytes().startswith(PNG)


def test_a_fifth_of_each_digit_is_held_out():
    data = digits.load()
    assert data.train_images.shape == (1437, 1, 8, 8)
    assert data.test_images.shape == (360, 1, 8, 8)
    assert data.train_images.dtype == np.float32
    assert data.train_images.min() >= 0 and data.train_images.max() == 1
    counts = np.bincount(data.test_labels)
    assert len(counts) == 10 and counts.min() >= 34


def test_shifted_digits_are_moved_by_at_most_one_pixel():
    image = np.zeros((200, 1, 8, 8), np.float32)
    image[:, 0, 4, 4] = 1
    moved = digits.shifted(image, np.random.default_rng(0))
    assert moved.shape == image.shape and moved.dtype == image.dtype
    places = {tuple(np.argwhere(one[0])[0]) for one in moved}
    assert places == {(h, w) for h in (3, 4, 5) for w in (3, 4, 5)}


def test_training_repeats_itself_and_learns(tmp_path, monkeypatch):
    monkeypatch.setattr(digits, "_BATCH", 16)
    data = digits.load()
    part = digits.Digits(
        data.train_images[:240], data.train_labels[:240], data.test_images, data.test_labels
    )

    def history(epochs):
        found, network = digits.History(), digits.make_network()
        for _ in digits.train(network, part, found, epochs):
            pass
        return found, network

    first, network = history(epochs=5)
    assert len(first.accuracies) == 5 and len(first.losses) == 75
    assert history(epochs=1)[0].losses == first.losses[:15]
    assert np.mean(first.losses[-5:]) < 0.8 * np.mean(first.losses[:5])
    assert first.accuracies[-1] > 0.2
    digits.draw_history(tmp_path / "history.png", first)
    digits.draw_features(tmp_path / "features.png", network, data.test_images[0], 3)
    for path in tmp_path.iterdir():
        assert path.read_bytes().startswith(PNG)


def test_an_untrained_network_fails_the_demo(screen, tmp_path, monkeypatch):
    monkeypatch.setattr(digits, "_EPOCHS", 1)
    monkeypatch.setattr(digits, "_LEARNING_RATE", 0.0)
    with pytest.raises(RuntimeError, match="wanted at least 97%"):
        digits.run(screen, tmp_path)


def test_every_algorithm_is_in_the_table(screen, monkeypatch):
    problem = parse("fprop:f32:nhwc-krsc:n1c8h6w6_k8r3s3_p1x1")
    monkeypatch.setattr(
        algorithms, "race", lambda calls, method: {name: Timing((1e-3,)) for name in calls}
    )
    measured = algorithms.compare(problem)
    assert "cpu.reference" in measured
    assert all(one.error_units <= 4 for one in measured.values())
    loud = Console(width=150)
    with loud.capture() as capture:
        loud.print(algorithms.table(problem, measured, peak=100.0))
    shown = capture.get()
    for algorithm in registry.algorithms("cpu"):
        assert algorithm.name in shown
    assert shown.count("predicted") == 1  # one was chosen
    pooling = [a.name for a in registry.algorithms("cpu") if a.name not in measured]
    assert shown.count("refused:") == len(pooling)


@pytest.fixture
def invented_parts(monkeypatch):
    ran: list[str] = []

    def part(name):
        def run(screen, out):
            ran.append(name)
            (out / f"{name}.png").write_bytes(PNG)
            return [out / f"{name}.png"]

        return run

    for module in (filters, digits, algorithms):
        monkeypatch.setattr(module, "run", part(module.__name__.rpartition(".")[2]))
    return ran


def test_the_demo_runs_its_parts_and_says_where_the_pictures_are(invented_parts, tmp_path):
    done = CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "new")])
    assert done.exit_code == 0, done.output
    assert invented_parts == ["filters", "digits", "algorithms"]
    for name in invented_parts:
        assert str(tmp_path / "new" / f"{name}.png") in done.output


def test_one_part_can_be_asked_for(invented_parts, tmp_path):
    done = CliRunner().invoke(app, ["demo", "--out", str(tmp_path), "--part", "digits"])
    assert done.exit_code == 0, done.output
    assert invented_parts == ["digits"]


def test_what_is_not_installed_is_named(invented_parts, tmp_path, monkeypatch):
    monkeypatch.setattr(demo_package.importlib.util, "find_spec", lambda name: None)
    done = CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "none")])
    assert done.exit_code == 2
    assert "pip install 'convforge[demo]'" in " ".join(done.output.split())
    assert not (tmp_path / "none").exists()
