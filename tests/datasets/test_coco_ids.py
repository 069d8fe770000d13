"""A file's own ids come back in the detections, so that anyone can judge them against that file."""

from pathlib import Path

from detect.datasets import coco
from detect.structures import Box, Dataset, Image


def test_results_take_the_ids_of_the_file() -> None:
    dataset = Dataset(
        (Image(Path("a.png"), 8, 8, (Box("scratch", (0, 0, 4, 4)),)), Image(Path("b.png"), 8, 8)), ("scratch", "pit")
    )
    truth = {
        "images": [{"id": 70, "file_name": "a.png"}, {"id": 3, "file_name": "b.png"}],
        "categories": [{"id": 9, "name": "scratch"}, {"id": 5, "name": " pit "}],
        "annotations": [],
    }
    results = [
        {"image_id": 1, "category_id": 2, "bbox": [0, 0, 1, 1], "score": 0.5},
        {"image_id": 2, "category_id": 1, "bbox": [1, 1, 2, 2], "score": 0.25},
    ]
    assert coco.in_ids_of(truth, results, dataset) == [
        {"image_id": 70, "category_id": 5, "bbox": [0, 0, 1, 1], "score": 0.5},
        {"image_id": 3, "category_id": 9, "bbox": [1, 1, 2, 2], "score": 0.25},
    ]
