"""environment.json of a run: versions, machine, commit and the digests of its label files, to tell runs apart by."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from ..formats.files import read_json

_PACKAGES = ("surface-detect", "torch", "torchvision", "numpy", "pycocotools", "opencv-python-headless", "pillow")
_SUMMING = ("torch", "torchvision", "numpy", "opencv-python-headless")  # those whose sums a training consists of


def read_environment(path: Path) -> dict[str, Any]:
    """What the file tells; nothing if there is none or it is damaged."""
    try:
        content = read_json(path)
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    kinds = {"resumed": list, "versions": dict, "machine": dict, "data_sha256": dict}
    return {key: value for key, value in content.items() if isinstance(value, kinds.get(key, object))}


def environment(
    before: Mapping[str, Any], *, device: torch.device, precision: str, processes: int, data: Sequence[Path]
) -> dict[str, Any]:
    """What to write now.

    Args:
        before: what a run that goes on has written already; it adds when it went on.
        device, precision, processes: that train.
        data: the label files.
    """
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {
        "started": before.get("started", now),
        "resumed": [*before.get("resumed", []), now] if before else [],
        "versions": {name: _version(name) for name in _PACKAGES} | {"python": platform.python_version()},
        "machine": {
            "system": platform.platform(),
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "processes": processes,
            "threads": torch.get_num_threads(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        },
        "precision": precision,
        "commit": _commit(),
        "data_sha256": {str(path): _sha256(path) for path in data},
    }


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What has changed between two environments and may move the last bits of sums, as "torch 2.14.0 -> 2.15.0"."""
    kept = [("versions", key) for key in _SUMMING]
    kept += [("machine", key) for key in ("processor", "device", "threads", "processes")]
    pairs = [(key, before.get(section, {}).get(key), now[section][key]) for section, key in kept]
    pairs.append(("precision", before.get("precision"), now["precision"]))
    return [f"{key} {old} -> {new}" for key, old, new in pairs if old is not None and old != new]


def changed_labels(before: Mapping[str, Any]) -> Iterator[str]:
    """Label files that are no longer what they were."""
    for path, digest in before.get("data_sha256", {}).items():
        if Path(path).is_file() and _sha256(Path(path)) != digest:
            yield path


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the checkout that this code lies in, "+changes" if files differ from it."""
    here = Path(__file__).parent
    try:
        git = ["git", "-C", str(here)]
        top = subprocess.run([*git, "rev-parse", "--show-toplevel"], capture_output=True, text=True, timeout=5)
        if top.returncode or Path(top.stdout.strip()) != here.parents[1]:
            return None
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5)
        status = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if head.returncode:
        return None
    return head.stdout.strip() + ("+changes" if status.stdout.strip() else "")
