"""The structure of the library: who imports whom, what stays free of torch, what README says of both."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "detect"

# A room imports only from the lines above its own; rooms on one line don't import each other.
LAYERS = [
    {"errors", "released"},
    {"structures", "fileio"},
    {"images", "config"},
    {"datasets"},
    {"synthetic", "visualize"},
    {"evaluation"},
    {"data"},
    {"models"},
    {"inference"},
    {"engine"},
    {"report", "export"},
    {"benchmark", "serve"},
    {"cli"},
    {"__main__", "__init__"},
]
LAYER_OF = {room: i for i, rooms in enumerate(LAYERS) for room in rooms}
TORCH_FREE = {
    *("errors", "released", "structures", "fileio", "images", "config", "datasets", "synthetic", "visualize"),
    *("evaluation", "report", "cli", "__init__"),
}

FILES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> Iterator[tuple[str, str, int]]:
    """(module as dotted name below ``detect``, imported name, line) for each import from inside the library."""
    package = ["detect", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = [*base, *(node.module.split(".") if node.module else [])]
            if module[:1] == ["detect"]:
                for alias in node.names:
                    yield ".".join(module[1:]), alias.name, node.lineno
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "detect":
                    yield ".".join(alias.name.split(".")[1:]), "", node.lineno


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_down(path: Path) -> None:
    room = room_of(path)
    assert room in LAYER_OF, f"{room} has no layer yet: name it in LAYERS and in README's tree"
    for module, name, line in imports_of(path):
        other = module.split(".")[0] or name
        if other in (room, "__version__"):
            continue
        assert LAYER_OF[other] < LAYER_OF[room], (
            f"{name_of(path)}:{line} imports {other}, which isn't above {room} in LAYERS"
        )


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_private_names_stay_in_their_room(path: Path) -> None:
    for module, name, line in imports_of(path):
        if module.split(".")[0] != room_of(path):
            private = [part for part in [*module.split("."), name] if part.startswith("_") and part != "__version__"]
            assert not private, f"{name_of(path)}:{line} takes {private[0]} out of another room"


@pytest.mark.parametrize(
    "path", [*FILES, *sorted((ROOT / "tools").glob("*.py")), *sorted((ROOT / "benchmarks").glob("*.py"))], ids=name_of
)
def test_a_file_says_what_it_is_about(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(text))
    assert docstring, f"{name_of(path)} doesn't say which idea it holds"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_public_names_exist(path: Path) -> None:
    if path.name != "__init__.py":
        return
    module = importlib.import_module(".".join(["detect", *path.relative_to(PACKAGE).parts[:-1]]))
    for name in getattr(module, "__all__", ()):
        assert hasattr(module, name), f"{module.__name__} promises {name}"


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    import detect

    with pytest.raises(AttributeError, match="no attribute 'Detectron'"):
        detect.Detectron  # noqa: B018


def test_labels_evaluation_and_report_never_load_torch() -> None:
    modules = [module_name(path) for path in FILES if room_of(path) in TORCH_FREE]
    code = f"import sys\nfor name in {modules}: __import__(name)\nprint([m for m in sys.modules if m == 'torch'])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_readme_shows_the_tree() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = re.search(r"```\n(detect/.*?)```", text, flags=re.DOTALL)
    assert tree, "README.md has no block that starts with detect/"
    inside, _, outside = tree[1].partition("\ntools/")
    # A line names one or more entries, then, after two spaces, says what they are.
    named = [
        entry.strip().rstrip("/")
        for line in inside.splitlines()[1:]
        for entry in re.split(r"\s{2,}", line.strip())[0].split(",")
    ]
    there = {
        path.name
        for path in PACKAGE.iterdir()
        if (path.suffix == ".py" and path.name != "__init__.py") or (path / "__init__.py").exists()
    }
    assert sorted(named) == sorted(there)
    rooms = [entry.removesuffix(".py") for entry in named]
    assert {*rooms, "__init__"} == set(LAYER_OF), "LAYERS and README's tree name different rooms"
    for above, below in pairwise(rooms):
        assert LAYER_OF[above] <= LAYER_OF[below], f"README's tree has {above} before {below}, LAYERS the other way"
    for line in ("tools/" + outside).split("\n"):
        folder = line.split("/")[0].strip()
        assert not folder or (ROOT / folder).is_dir(), f"README's tree names {folder}, which isn't there"
