"""The package's front: what a fresh interpreter imports, and where names lead."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

import convforge


def run(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    ).stdout.strip()


def test_importing_the_package_imports_nothing_heavy():
    heavy = run(
        "import sys, convforge\n"
        "names = ('numpy', 'numba', 'torch', 'scipy', 'rich', 'typer', 'keras', 'jax')\n"
        "print([name for name in names if name in sys.modules])"
    )
    assert heavy == "[]"


def test_layers_import_no_framework():
    # scipy is numba's to import, where it is installed.
    frameworks = run(
        "import sys, convforge.nn, convforge.optim\n"
        "names = ('torch', 'rich', 'typer', 'keras', 'jax')\n"
        "print([name for name in names if name in sys.modules])"
    )
    assert frameworks == "[]"


def test_every_name_leads_somewhere():
    for name in dir(convforge):
        if not name.startswith("_"):
            assert getattr(convforge, name) is not None
    assert {"conv2d", "Tensor", "nn", "plan", "Policy", "manual_seed"} <= set(dir(convforge))
    assert convforge.conv2d is convforge.functional.conv2d
    with pytest.raises(AttributeError, match="module 'convforge' has no attribute 'conv4d'"):
        convforge.conv4d  # noqa: B018


@pytest.mark.parametrize("first", ["import convforge.plan", "import convforge.nn", "pass"])
def test_plan_is_the_function_whatever_was_imported_before(first):
    text = run(
        f"import convforge\n{first}\n"
        "from convforge.plan import Plan\n"
        "policy = convforge.Policy(algorithm='reference')\n"
        "print(convforge.plan('fprop:f32:n1c1h4w4_k1r3s3', policy))"
    )
    assert text == "<Plan fprop:f32:n1c1h4w4_k1r3s3 by cpu.reference>"


def test_plans_pickle():
    plan = convforge.plan("fprop:f32:n1c1h4w4_k1r3s3")
    assert str(pickle.loads(pickle.dumps(plan))) == str(plan)
