"""What is kept on disk, and what is said where there is no compiler."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest

from convforge.runtime.paths import cache_dir
from convforge.testing import emulator
from convforge.testing.emulator import build as building
from convforge.testing.emulator import translate as translating


@pytest.fixture
def compilations(monkeypatch, tmp_path):
    """A cache of its own, and the list of what is compiled into it."""
    monkeypatch.setattr(building, "cache_dir", lambda: tmp_path)
    monkeypatch.setattr(building, "_compile_runtime", lambda target: target.touch())
    made = []

    def run(*arguments):
        made.append(arguments)
        Path(arguments[-1]).write_text("a shared object", encoding="utf-8")

    monkeypatch.setattr(building, "_run", run)
    return made


def test_equal_sources_are_compiled_once(compilations, tmp_path):
    first = building.build("one")
    threads = [threading.Thread(target=building.build, args=["two"]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert building.build("one") == first
    assert len(compilations) == 2
    # Nothing half-made is left.
    assert {path.suffix for path in tmp_path.rglob("*")} == {"", ".so", ".o", ".lock"}


def test_the_name_tells_the_emulator_and_the_compiler(compilations, monkeypatch):
    first = building.build("one")
    monkeypatch.setattr(building, "_runtime_stamp", lambda: "another compiler")
    assert building.build("one") != first


def test_the_project_s_cache_is_used(entry, build):
    build(entry("kept", ()))
    assert list((cache_dir() / "emulator").glob("*.so"))


def test_without_a_compiler(monkeypatch):
    monkeypatch.setattr(building, "compiler", lambda: None)
    reason = emulator.unavailable()
    assert reason.startswith("no g++ on PATH")
    with pytest.raises(RuntimeError, match=re.escape(reason)):
        building._run("--version")


def test_elsewhere(monkeypatch):
    monkeypatch.setattr(building.platform, "system", lambda: "Darwin")
    assert "this is Darwin" in emulator.unavailable()


def test_the_same_text_gives_the_same_source(entry):
    text = f".version 8.0\n.target sm_80\n.address_size 64\n{entry('k', ('u64 x',), 'bar.sync 0;')}"
    assert translating.translate(text) == translating.translate(text)
