"""Every script in benchmarks/ can be imported and explains itself, and the folder's README names it."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "benchmarks").glob("*.py"))
SCRIPTS = [path for path in FILES if "__main__" in path.read_text("utf-8")]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_prints_its_help(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = importlib.import_module(path.stem)
    monkeypatch.setattr("sys.argv", [path.name, "--help"])
    with pytest.raises(SystemExit) as stopped:
        script.main()
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith("usage:")


@pytest.mark.parametrize("path", [path for path in FILES if path not in SCRIPTS], ids=lambda path: path.stem)
def test_a_module_of_scripts_can_be_imported(path: Path) -> None:
    importlib.import_module(path.stem)


def test_the_readme_names_every_file() -> None:
    text = (ROOT / "benchmarks" / "README.md").read_text("utf-8")
    assert [path.name for path in FILES if f"`{path.name}`" not in text] == []
