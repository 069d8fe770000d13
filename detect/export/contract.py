"""contract.json beside an exported model: what it takes and gives, so that a program needs no other description."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..checkpoint import Detector
from ..data import MOST
from ..errors import DataError
from ..formats.files import read_json, write_json
from ..images import Pixels

FILE_NAME = "contract.json"
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Contract:
    """What an exported model promises.

    Attributes:
        model: name of the model's file, beside this one.
        runtime: "onnx" or "openvino".
        precision: "fp32" or "int8".
        size_hw: height and width in pixels of the image, one a call.
        channels: 1: the array is [height, width], gray; 3: [height, width, 3], RGB.
        dtype: of the array, "uint8" or "uint16".
        white: the gray value of white.
        categories: label 1 is the first.
    """

    model: str
    runtime: str
    precision: str
    size_hw: tuple[int, int]
    channels: int
    dtype: str
    white: int
    categories: tuple[str, ...]

    @classmethod
    def of(cls, detector: Detector, *, runtime: str, precision: str, like: Pixels) -> Contract:
        """The contract of a detector for images like one, which is given as the graph takes it, gray or RGB."""
        deep = like.dtype == np.uint16
        return cls(
            "model.onnx" if runtime == "onnx" else "model.xml",
            runtime,
            precision,
            (like.shape[0], like.shape[1]),
            detector.channels,
            str(like.dtype),
            (detector.max_value or MOST) if deep else 255,
            detector.categories,
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array."""
        return self.size_hw if self.channels == 1 else (*self.size_hw, 3)


def write_contract(folder: Path, contract: Contract, more: dict[str, Any]) -> None:
    """Write it with what else there is to tell: of outputs, thresholds, the proof, the versions."""
    outputs = {
        "boxes": "float32[N, 4]: x1, y1, x2, y2 in pixels of the image, 0-based, x2 and y2 exclusive; best score first",
        "scores": "float32[N]: 0 to 1",
        "labels": "int64[N]: 1 is the first of categories",
    }
    write_json(
        folder / FILE_NAME,
        {"schema": SCHEMA, "input": "image", **asdict(contract), "shape": contract.shape, "outputs": outputs, **more},
        indent=1,
    )


def read_contract(folder: Path) -> tuple[Contract, dict[str, Any]]:
    """The contract of an exported model, and all that its file tells.

    Raises:
        DataError: no export of this library.
    """
    path = folder / FILE_NAME
    fix = "give a folder that 'detect export' wrote"
    try:
        content = read_json(path)
        if content["schema"] != SCHEMA:
            raise KeyError
        keys = ("model", "runtime", "precision", "channels", "dtype", "white")
        height, width = content["size_hw"]
        size_hw, categories = (int(height), int(width)), tuple(map(str, content["categories"]))
        contract = Contract(**{key: content[key] for key in keys}, size_hw=size_hw, categories=categories)
    except OSError as error:
        raise DataError(f"can't read the contract ({error.strerror})", where=path, fix=fix) from None
    except (KeyError, TypeError, ValueError):
        raise DataError("the file is no contract of an exported model", where=path, fix=fix) from None
    if Path(contract.model).name != contract.model:
        raise DataError(f"the model's name {contract.model!r:.60} leads elsewhere", where=path, fix=fix)
    return contract, content
