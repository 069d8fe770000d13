"""The distribution: what it needs, what it holds, what it is pinned to, and how the Makefile sets it up."""

from __future__ import annotations

import ast
import configparser
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from detect import __version__

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
IMPORTED_AS = {
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "prometheus-client": "prometheus_client",
    "python-multipart": "python_multipart",
}


def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def requirements(*texts: str) -> list[Requirement]:
    return [Requirement(line) for text in texts for line in text.split("\n") if line.strip()]


def runtime() -> list[Requirement]:
    return requirements(setup()["options"]["install_requires"])


def pins(python: str) -> dict[str, Requirement]:
    """The constraints that hold on Linux for one Python, by name."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.1",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
    }
    held = [pin for pin in requirements(*lines) if pin.marker is None or pin.marker.evaluate(environment)]
    names = [canonicalize_name(pin.name) for pin in held]
    assert len(names) == len(set(names)), f"two versions of one package for Python {python}"
    return dict(zip(names, held))


@pytest.mark.parametrize("python", PYTHONS)
def test_every_requirement_is_pinned_to_a_version_it_allows(python: str) -> None:
    pinned = pins(python)
    for requirement in [*runtime(), *requirements(*setup()["options.extras_require"].values())]:
        (specifier,) = pinned[canonicalize_name(requirement.name)].specifier
        assert specifier.operator == "=="
        assert specifier.version in requirement.specifier


def test_what_is_imported_is_required_and_the_reverse() -> None:
    imported = set()
    for path in (ROOT / "detect").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                imported.add(node.module.split(".")[0])
    required = {IMPORTED_AS.get(requirement.name, requirement.name) for requirement in runtime()}
    foreign = imported - set(sys.stdlib_module_names) - {"detect"}
    extras = {name: text for name, text in setup()["options.extras_require"].items() if name != "dev"}
    optional = {IMPORTED_AS.get(requirement.name, requirement.name) for requirement in requirements(*extras.values())}
    assert foreign - optional == required


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built offline from a copy, as building leaves files in the source."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    shutil.copytree(ROOT / "detect", copy / "detect", ignore=shutil.ignore_patterns("__pycache__"))
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "."]
    subprocess.run(build, cwd=copy, check=True, capture_output=True)
    (built,) = copy.glob("*.whl")
    return zipfile.ZipFile(built)


def test_the_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
    wanted = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "detect").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert inside == wanted
    assert "detect/py.typed" in inside


def test_the_wheel_says_what_it_is(wheel: zipfile.ZipFile) -> None:
    info = f"surface_detect-{__version__}.dist-info"
    metadata = wheel.read(f"{info}/METADATA").decode()
    assert "\nName: surface-detect\n" in metadata
    assert re.search(r"^License(-Expression)?: Apache-2\.0$", metadata, flags=re.MULTILINE)
    assert wheel.read(f"{info}/entry_points.txt").decode().split() == [
        "[console_scripts]",
        "detect",
        "=",
        "detect.cli:main",
    ]
    assert any(name.endswith("/LICENSE") for name in wheel.namelist())


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
@pytest.mark.parametrize(
    ("python", "message"),
    [("no-such-python", "There is no no-such-python here"), ("false", "too old. Name a Python 3.10 or newer")],
)
def test_make_says_which_python_it_needs(python: str, message: str, tmp_path: Path) -> None:
    arguments = ["make", "install", f"PYTHON={python}", f"VENV={tmp_path / 'venv'}"]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert message in done.stdout


def test_no_data_is_tracked() -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("this is no checkout")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    data = [name for name in listed if re.search(r"\.(bmp|jpe?g|tiff?|xml|pt|onnx)$", name, flags=re.IGNORECASE)]
    assert data == ["detect/released/neu.pt"], "pictures of other people's plates and other weights stay out"
