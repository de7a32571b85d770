from __future__ import annotations

import pytest

from convforge.bench import startup


def test_a_fresh_interpreter_reports_its_own_time(tmp_path):
    assert startup._seconds("print(0.25)", tmp_path, tmp_path / "cache") == 0.25


def test_its_kernel_cache_is_the_one_given(tmp_path):
    code = (
        "import os; from convforge.runtime.paths import cache_dir;"
        "print(float(str(cache_dir()) == os.environ['CONVFORGE_CACHE_DIR']))"
    )
    assert startup._seconds(code, tmp_path, tmp_path / "cache") == 1.0
    assert (tmp_path / "cache").is_dir()


def test_its_failure_is_not_hidden(tmp_path):
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        startup._seconds("1 / 0", tmp_path, tmp_path)


def test_medians_over_rounds(monkeypatch):
    times = {startup._IMPORT: 0.01, startup._TRIVIAL_CALL: 0.4, startup._FIRST_CALL: 0.5}

    def invented(code, folder, cache):
        return 3.0 if cache.name.startswith("empty") else times[code]

    monkeypatch.setattr(startup, "_seconds", invented)
    assert startup.measure(rounds=3) == startup.Startup(
        import_s=0.01, first_ever_s=3.0, new_process_s=0.5, trivial_s=0.4
    )
