"""Networks of keras.applications before and after conversion."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "docs" / "integrations" / "keras_applications.py"
# Of 50 layers one after the other, each of which rounds in another order.
MOST = 2e-5


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("keras_applications", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("name", "layers"), [("VGG16", 18), ("ResNet50", 55), ("MobileNetV2", 53)])
def test_outputs_stay_the_same(script, name, layers):
    found, difference, *_ = script.compare(name)
    assert found == layers
    assert 0 < difference < MOST
