"""What is served: a detector of this library, or one that was exported, behind the same few values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..data import check_depth
from ..export.contract import FILE_NAME, read_contract
from ..export.runtimes import load
from ..images import Pixels
from ..inference import Predictor
from ..records import Detections


@dataclass(frozen=True, slots=True)
class Model:
    """A detector as a server needs it.

    Attributes:
        name: what answers call it.
        categories: names that it finds.
        thresholds: category -> score from which on a detection is shown, unless a request asks for another.
        look: images in, detections of each out, all that the detector reports, best first. Those that the server looks
            at together have one size and depth. Raises DataError for what the detector can't take.
    """

    name: str
    categories: tuple[str, ...]
    thresholds: Mapping[str, float]
    look: Callable[[Sequence[Pixels]], Sequence[Detections]]

    def kept(self, found: Detections, threshold: float | None) -> Detections:
        """Those to show: from one score on, or from each class's own."""
        if threshold is not None:
            return found.above(threshold)
        lowest = [self.thresholds[name] for name in found.categories]
        keep = [i for i in range(len(found)) if found.scores[i] >= lowest[found.labels[i] - 1]]
        return Detections(found.boxes_xyxy[keep], found.scores[keep], found.labels[keep], found.categories)


def of_predictor(predictor: Predictor, name: str, thresholds: Mapping[str, float]) -> Model:
    """A detector of this library, thresholds by category; its scores are calibrated where the predictor's are."""
    return Model(name, predictor.categories, dict(thresholds), predictor.together)


def is_export(folder: Path) -> bool:
    """Whether ``detect export`` wrote this folder."""
    return (folder / FILE_NAME).is_file()


def of_export(folder: Path, name: str, threshold: float | None, *, default: float, threads: int) -> Model:
    """An exported model, which takes images of one size and gives the network's own scores.

    Args:
        folder: with contract.json in it.
        name: what answers call it.
        threshold: of all categories; None: those of the contract.
        default: for categories that the contract names no threshold of.
        threads: that it may use; 0: as many as it likes.

    Raises:
        DataError: no export, or a model that its runtime refuses.
        ConfigError: the runtime isn't installed.
    """
    runner = load(folder, threads=threads)
    contract, content = read_contract(folder)
    told = content.get("thresholds")
    chosen = told if isinstance(told, dict) else {}
    of = {each: float(chosen.get(each, default)) if threshold is None else threshold for each in runner.categories}

    def look(images: Sequence[Pixels]) -> list[Detections]:
        return [runner(check_depth(each, contract.white)) for each in images]

    return Model(name, runner.categories, of, look)
