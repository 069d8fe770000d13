"""Folders as labelling tools export them: one function per tool and export, all with the same known labels.

Each function writes small images and label files below a folder, with the field names, number formats, paths and extra
files of the tool, and returns what a reader has to make of them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from layout_writers import (
    DECLARED,
    IMAGES,
    TRUTH,
    USED,
    Box,
    Expected,
    Node,
    Picture,
    annotations,
    area,
    bndbox,
    centre_and_size,
    corners,
    draw,
    draw_all,
    floor,
    four_corners,
    from_one,
    image_sets,
    lines,
    mac_archive,
    parted,
    undivided,
    voc,
    write,
    xml,
    xywh,
    yolo,
)

# labelImg ------------------------------------------------------------------------------------------------------------


def labelimg_box(box: Box) -> Box:
    """Cut to whole pixels, which count from 0; a left or upper side at 0 is moved to 1."""
    x1, y1, x2, y2 = floor(box)
    return max(x1, 1), max(y1, 1), x2, y2


def labelimg_voc(folder: Path) -> Expected:
    """PascalVOC next to the images, with the annotator's path, and Windows' own files."""
    for image in IMAGES:
        draw(folder, image)
        head = [("folder", "plates"), ("filename", image.file), ("path", f"C:\\Users\\Jörg\\plates\\{image.file}")]

        def fields(label: str, box: Box, size: tuple[int, int] = image.size) -> list[Node]:
            x1, y1, x2, y2 = map(int, labelimg_box(box))
            truncated = int(y2 == size[1] or y1 == 1 or x2 == size[0] or x1 == 1)
            values = [("name", label), ("pose", "Unspecified"), ("truncated", truncated), ("difficult", 0)]
            return [*values, bndbox((x1, y1, x2, y2))]

        head.append(("source", [("database", "Unknown")]))
        voc(folder / f"{image.name}.xml", image, head, fields, indent="\t")
    (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
    write(folder / "desktop.ini", "[.ShellClassInfo]\n", newline="\r\n")
    return undivided(box=labelimg_box, categories=USED, tolerance=1)


def labelimg_yolo(folder: Path) -> Expected:
    """YOLO next to the images; ``classes.txt`` is among the label files, and there is no YAML."""
    for image in IMAGES:
        draw(folder, image)
        row = lambda box, size: centre_and_size(labelimg_box(box), size)  # noqa: E731
        yolo(folder / f"{image.name}.txt", image, row=row, newline="\r\n")
    write(folder / "classes.txt", lines(DECLARED), newline="\r\n")
    return undivided(box=labelimg_box)


def labelimg_createml(folder: Path) -> Expected:
    """CreateML: a list of images, each with centres and sizes in pixels."""
    entries = []
    for image in IMAGES:
        draw(folder, image)
        found = []
        for label, (x1, y1, x2, y2) in image.boxes:
            values = {"x": (x1 + x2) / 2, "y": (y1 + y2) / 2, "width": x2 - x1, "height": y2 - y1}
            found.append({"label": label, "coordinates": values})
        entries.append({"image": image.file, "annotations": found})
    write(folder / "plates.json", json.dumps(entries))
    return undivided(categories=USED, refused="CreateML")


# LabelMe -------------------------------------------------------------------------------------------------------------


def labelme(
    folder: Path,
    shape_type: str,
    points: Callable[[Box], list[tuple[float, float]]],
    *,
    version: str = "5.5.0",
    image_path: str = "{}",
    images: str = ".",
    embedded: bool = False,
) -> None:
    """A JSON file per image; version 4 writes neither descriptions nor masks."""
    for image in IMAGES:
        file = draw(folder / images, image)
        shapes = []
        for label, box in image.boxes:
            shape = {"label": label, "points": [[float(x), float(y)] for x, y in points(box)], "group_id": None}
            if version < "5":
                shapes.append({**shape, "shape_type": shape_type, "flags": {}})
            else:
                shapes.append({**shape, "description": "", "shape_type": shape_type, "flags": {}, "mask": None})
        data = {
            **{"version": version, "flags": {}, "shapes": shapes, "imagePath": image_path.format(image.file)},
            "imageData": base64.b64encode(file.read_bytes()).decode() if embedded else None,
            **{"imageHeight": image.size[1], "imageWidth": image.size[0]},
        }
        write(folder / f"{image.name}.json", json.dumps(data, ensure_ascii=False, indent=2))


def labelme_rectangles(folder: Path) -> Expected:
    """Two corners in the order in which they were drawn, here from the bottom right; the image is inside the JSON."""
    labelme(folder, "rectangle", lambda box: corners(box)[2::-2], embedded=True)
    return undivided(categories=USED)


def labelme_windows_paths(folder: Path) -> Expected:
    """Version 4 on Windows, with the images in another folder."""
    places = {"image_path": "..\\images\\{}", "images": "../images"}
    labelme(folder / "labels", "rectangle", lambda box: corners(box)[::2], version="4.6.0", **places)
    return undivided(categories=USED)


def labelme_polygons(folder: Path) -> Expected:
    labelme(folder, "polygon", lambda box: [*corners(box), ((box[0] + box[2]) / 2, box[1] + 1)])
    return undivided(categories=USED, converted="polygons to the boxes around them")


def labelme_oriented_rectangles(folder: Path) -> Expected:
    """Four corners, of which any may be the first."""
    labelme(folder, "oriented_rectangle", lambda box: [*corners(box)[1:], corners(box)[0]], version="6.0.0")
    return undivided(categories=USED, converted="turned rectangles to the boxes around them")


def labelme_circles(folder: Path) -> Expected:
    """A centre and a point of the circle, here of the largest circle in each box."""

    def circle(box: Box) -> tuple[float, float, float]:
        return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, min(box[2] - box[0], box[3] - box[1]) / 2

    def around(box: Box) -> Box:
        x, y, radius = circle(box)
        return x - radius, y - radius, x + radius, y + radius

    def points(box: Box) -> list[tuple[float, float]]:
        x, y, radius = circle(box)
        return [(x, y), (x + 0.6 * radius, y + 0.8 * radius)]

    labelme(folder, "circle", points)
    return undivided(box=around, categories=USED, converted="circles to the boxes around them")


def labelme_lines(folder: Path) -> Expected:
    """Lines have no area; a reader must not leave them out in silence."""
    labelme(folder, "line", lambda box: corners(box)[::2])
    return undivided(categories=USED, refused=r"\bline\b")


def labelme2voc(folder: Path) -> Expected:
    """LabelMe's own script for VOC: fractions, from 0, and a drawing of each image under the image's own name."""

    def fields(label: str, box: Box) -> list[Node]:
        empty = [("pose", None), ("truncated", None), ("difficult", None)]
        return [("name", label), *empty, bndbox(map(float, box))]

    for image in IMAGES:
        draw(folder / "JPEGImages", image)
        draw(folder / "AnnotationsVisualization", image, seed=100)
        head = [("folder", None), ("filename", image.file), ("database", None), ("annotation", None), ("image", None)]
        voc(folder / "Annotations" / f"{image.name}.xml", image, head, fields, depth=3, segmented=None)
    write(folder / "class_names.txt", "\n".join(("_background_", *DECLARED)))
    return undivided(categories=USED)


# CVAT and Datumaro ---------------------------------------------------------------------------------------------------

CVAT_SUBSETS = {"train": "Train", "val": "Validation", "test": "Test"}  # as CVAT's menu offers them


def datumaro_coco_json(path: Path, images: Sequence[Picture], **more: Any) -> None:
    """COCO as CVAT and Datumaro write it; ``more`` goes into each annotation."""
    data = {
        "licenses": [{"name": "", "id": 0, "url": ""}],
        "info": {"contributor": "", "date_created": "", "description": "", "url": "", "version": "", "year": ""},
        "categories": [{"id": i, "name": name, "supercategory": ""} for i, name in enumerate(DECLARED, 1)],
        "images": [
            {
                **{"id": i, "width": image.size[0], "height": image.size[1], "file_name": image.file},
                **{"license": 0, "flickr_url": "", "coco_url": "", "date_captured": 0},
            }
            for i, image in enumerate(images, 1)
        ],
        "annotations": annotations(
            images,
            from_one(DECLARED),
            lambda box: {"segmentation": [], "area": area(box), "bbox": xywh(box), "iscrowd": 0, **more},
            first=1,
        ),
    }
    write(path, json.dumps(data, separators=(",", ":")))


def cvat_coco(folder: Path) -> Expected:
    """COCO 1.0 of a project whose tasks have subsets."""
    for part, images in TRUTH.items():
        subset = CVAT_SUBSETS[part]
        attributes = {"occluded": False, "rotation": 0.0}
        datumaro_coco_json(folder / "annotations" / f"instances_{subset}.json", images, attributes=attributes)
        for image in images:
            draw(folder / "images" / subset, image)
    return parted()


def cvat_coco_polygons(folder: Path) -> Expected:
    """COCO 1.0 of a task without subsets, drawn with polygons."""
    path = folder / "annotations" / "instances_default.json"
    datumaro_coco_json(path, IMAGES, attributes={"occluded": False})
    data = json.loads(path.read_text())
    for each in data["annotations"]:
        x, y, width, height = each["bbox"]
        each["segmentation"] = [[x, y, x + width, y, x + width, y + height, x, y + height]]
    write(path, json.dumps(data, separators=(",", ":")))
    draw_all(folder / "images" / "default")
    return undivided(converted="polygons to the boxes around them")


def cvat_yolo(folder: Path) -> Expected:
    """YOLO 1.1: images and text files in one folder per subset, and lists whose paths start with ``data/``."""
    for part, images in TRUTH.items():
        for image in images:
            draw(folder / f"obj_{part}_data", image)
            yolo(folder / f"obj_{part}_data" / f"{image.name}.txt", image)
        write(folder / f"{part}.txt", lines(f"data/obj_{part}_data/{image.file}" for image in images))
    write(folder / "obj.names", lines(DECLARED))
    lists = [f"{part} = data/{part}.txt" for part in TRUTH]
    write(folder / "obj.data", lines(["classes = 3", *lists, "names = data/obj.names", "backup = backup/"]))
    return parted()


def cvat_ultralytics_yolo(folder: Path) -> Expected:
    """Ultralytics YOLO Detection 1.0; an image without objects has no text file."""
    for part, images in TRUTH.items():
        for image in images:
            draw(folder / "images" / part, image)
            if image.boxes:
                yolo(folder / "labels" / part / f"{image.name}.txt", image)
        write(folder / f"{part}.txt", lines(f"images/{part}/{image.file}" for image in images))
    names = [f"  {i}: {name}" for i, name in enumerate(DECLARED)]
    lists = [f"{part}: {part}.txt" for part in sorted(TRUTH)]
    write(folder / "data.yaml", lines(["names:", *names, "path: .", *lists]))
    return parted()


def datumaro_voc_xml(folder: Path, image: Picture, depth: object, *more: Node) -> None:
    def fields(label: str, box: Box) -> list[Node]:
        flags = [("truncated", 0), ("occluded", 0), ("difficult", 0)]
        return [("name", label), *flags, bndbox(map(float, box)), *more]

    source = [("database", "Unknown"), ("annotation", "Unknown"), ("image", "Unknown")]
    head = [("folder", "plate"), ("filename", image.file), ("source", source)]
    voc(folder / "Annotations" / f"{image.name}.xml", image, head, fields, depth=depth)


def cvat_voc(folder: Path) -> Expected:
    """PASCAL VOC 1.1: fractions, from 0, so that a box at the border has xmin 0; attributes have names, too."""
    draw_all(folder / "JPEGImages")
    for image in IMAGES:
        rotation = ("attribute", [("name", "rotation"), ("value", "0.0")])
        datumaro_voc_xml(folder, image, "", ("attributes", [rotation]))
    image_sets(folder)
    labels = [f"{name}:{i},{64 * i},0::" for i, name in enumerate(DECLARED, 1)]
    write(folder / "labelmap.txt", lines(["# label:color_rgb:parts:actions", "background:0,0,0::", *labels]))
    return parted()


def datumaro_voc(folder: Path) -> Expected:
    """The same by Datumaro: an image without objects has no XML and stands only in the lists."""
    draw_all(folder / "JPEGImages")
    for image in IMAGES:
        if image.boxes:
            datumaro_voc_xml(folder, image, image.size[0])
    image_sets(folder)
    for task in ("Action", "Layout", "Segmentation"):
        write(folder / "ImageSets" / task / "train.txt", "plate_3\n")
    labels = [f"{name}:::" for name in ("background", *DECLARED)]
    write(folder / "labelmap.txt", lines(["# label:color_rgb:parts:actions", *labels]))
    return parted(unlabelled=True)


def datumaro_ultralytics_yolo(folder: Path) -> Expected:
    """The lists' paths start with ``./``, and the YAML has no ``path``."""
    for part, images in TRUTH.items():
        for image in images:
            draw(folder / "images" / part, image)
            yolo(folder / "labels" / part / f"{image.name}.txt", image)
        write(folder / f"{part}.txt", lines(f"./images/{part}/{image.file}" for image in images))
    lists = [f"{part}: {part}.txt" for part in reversed(TRUTH)]
    write(folder / "data.yaml", lines([*lists, "names:", *(f"  {i}: {name}" for i, name in enumerate(DECLARED))]))
    return parted()


def datumaro_json(folder: Path) -> Expected:
    """Datumaro's own format, a JSON file per subset in ``annotations`` as COCO has."""
    for part, images in TRUTH.items():
        items = []
        for image in images:
            draw(folder / "images" / part, image)
            found = [
                {
                    **{"id": 0, "type": "bbox", "attributes": {"occluded": False}, "group": 0},
                    **{"label_id": DECLARED.index(label), "z_order": 0, "bbox": xywh(box)},
                }
                for label, box in image.boxes
            ]
            media = {"path": image.file, "size": [image.size[1], image.size[0]]}
            items.append({"id": image.name, "annotations": found, "image": media})
        labels = [{"name": name, "parent": "", "attributes": []} for name in DECLARED]
        categories = {"label": {"labels": labels, "label_groups": [], "attributes": []}}
        data = {"dm_format_version": "1.0", "media_type": 2, "infos": {}, "categories": categories, "items": items}
        write(folder / "annotations" / f"{part}.json", json.dumps(data, separators=(",", ":")))
    return parted(refused="Datumaro")


def cvat_images_xml(folder: Path) -> Expected:
    """CVAT for images 1.1 of a project; besides boxes it has tags of whole images."""
    return cvat_images(folder, lines=False)


def cvat_images_xml_lines(folder: Path) -> Expected:
    """The same with a line and points, which have no area."""
    return replace(cvat_images(folder, lines=True), refused="polyline")


def cvat_images(folder: Path, *, lines: bool) -> Expected:
    entries: list[Node] = []
    for part, images in TRUTH.items():
        for image in images:
            draw(folder / "images" / CVAT_SUBSETS[part], image)
            width, height = image.size
            shapes: list[Node] = []
            for label, box in image.boxes:
                sides = " ".join(f'{key}="{value:.2f}"' for key, value in zip(("xtl", "ytl", "xbr", "ybr"), box))
                tag = f'box label="{label}" source="manual" occluded="1" {sides} z_order="0"'
                shapes.append((tag, [('attribute name="depth"', [])]))
            if lines and not image.boxes:
                points = 'source="manual" occluded="0" points="5.00,5.00;30.00,40.50" z_order="0"'
                shapes += [(f'polyline label="dent" {points}', []), (f'points label="dent" {points}', [])]
            shapes.append(('tag label="dent" source="manual"', []))
            place = f'subset="{CVAT_SUBSETS[part]}" task_id="7" width="{width}" height="{height}"'
            entries.append((f'image id="{len(entries)}" name="{image.file}" {place}', shapes))
    labels = [
        ("label", [("name", name), ("color", "#ff0000"), ("type", "any"), ("attributes", [])]) for name in DECLARED
    ]
    project = [("id", 3), ("name", "plates"), ("labels", labels), ("subsets", "\n".join(CVAT_SUBSETS.values()))]
    meta = [("project", project), ("dumped", "2026-01-02 03:04:05.678901+00:00")]
    content = xml(("annotations", [("version", "1.1"), ("meta", meta), *entries]))
    write(folder / "annotations.xml", '<?xml version="1.0" encoding="utf-8"?>\n' + content)
    return parted()


def cvat_video_xml(folder: Path) -> Expected:
    """CVAT for video 1.1: tracks of boxes over frames, of which not all are drawn."""
    tracks: list[Node] = []
    for frame, image in enumerate(IMAGES):
        draw(folder / "images", image, f"frame_{frame:06d}.PNG")
        for label, box in image.boxes:
            sides = " ".join(f'{key}="{value:.2f}"' for key, value in zip(("xtl", "ytl", "xbr", "ybr"), box))
            tag = f'box frame="{frame}" keyframe="1" outside="0" occluded="0" {sides} z_order="0"'
            tracks.append((f'track id="{len(tracks)}" label="{label}" source="manual"', [(tag, [])]))
    labels = [("label", [("name", name), ("attributes", [])]) for name in DECLARED]
    size = [("width", 100), ("height", 80)]
    task = [("id", 7), ("size", len(IMAGES)), ("mode", "interpolation"), ("labels", labels), ("original_size", size)]
    content = xml(("annotations", [("version", "1.1"), ("meta", [("task", task)]), *tracks]))
    write(folder / "annotations.xml", '<?xml version="1.0" encoding="utf-8"?>\n' + content)
    return undivided(refused="CVAT")


def cvat_labelme(folder: Path) -> Expected:
    """LabelMe 3.0, the XML of the LabelMe website, which shares nothing but the name with LabelMe's JSON."""
    for image in IMAGES:
        draw(folder, image)
        objects = []
        for i, (label, box) in enumerate(image.boxes):
            points = [("pt", [("x", f"{x:.2f}"), ("y", f"{y:.2f}")]) for x, y in corners(box)]
            values = [("name", label), ("deleted", 0), ("verified", 0), ("occluded", "no"), ("id", i)]
            outline = ("polygon", [*points, ("username", "")])
            objects.append(("object", [*values, ("type", "bounding_box"), outline, ("attributes", "")]))
        size = [("nrows", image.size[1]), ("ncols", image.size[0])]
        head = [("filename", image.file), ("folder", ""), ("imagesize", size)]
        write(folder / f"{image.name}.xml", xml(("annotation", [*head, *objects])))
    return undivided(categories=USED, converted="polygons: the boxes around them")


# Label Studio --------------------------------------------------------------------------------------------------------

STUDIO_CLASSES = tuple(sorted(DECLARED))  # ids are alphabetical, from 0


def upload(image: Picture) -> str:
    """The name of an uploaded file starts with eight digits of chance."""
    return f"0a1b2c{int(image.name[-1]):02x}-{image.name}"


def label_studio_coco(folder: Path, place: str = "images/") -> Expected:
    """COCO with images. Boxes are percentages made pixels again, not quite whole; slashes in names are escaped."""
    draw_all(folder / "images", lambda image: f"{upload(image)}.jpg")

    def fields(box: Box) -> dict[str, Any]:
        sides = [value * (1 + 2e-16) for value in xywh(box)]
        return {"segmentation": [], "bbox": sides, "ignore": 0, "iscrowd": 0, "area": sides[2] * sides[3]}

    info = {"year": 2026, "version": "1.0", "description": "", "contributor": "Label Studio", "url": ""}
    data = {
        "images": [
            {"width": image.size[0], "height": image.size[1], "id": i, "file_name": f"{place}{upload(image)}.jpg"}
            for i, image in enumerate(IMAGES)
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate(STUDIO_CLASSES)],
        "annotations": annotations(IMAGES, {name: i for i, name in enumerate(STUDIO_CLASSES)}, fields, first=0),
        "info": {**info, "date_created": "2026-01-02 03:04:05.678901"},
    }
    write(folder / "result.json", json.dumps(data, indent=2).replace("/", "\\/"))
    return undivided(stem=upload)


def label_studio_coco_server_paths(folder: Path) -> Expected:
    """The same on Windows, where the names still lead to the server's upload folder."""
    return label_studio_coco(folder, "..\\..\\label-studio\\label-studio\\media\\upload\\4\\")


def label_studio_yolo(folder: Path) -> Expected:
    """YOLO with images: ``classes.txt`` and ``notes.json``, but no YAML; all decimals."""
    draw_all(folder / "images", lambda image: f"{upload(image)}.jpg")
    for image in IMAGES:
        yolo(folder / "labels" / f"{upload(image)}.txt", image, STUDIO_CLASSES, number=str)
    write(folder / "classes.txt", lines(STUDIO_CLASSES))
    categories = [{"id": i, "name": name} for i, name in enumerate(STUDIO_CLASSES)]
    info = {"year": 2026, "version": "1.0", "contributor": "Label Studio"}
    write(folder / "notes.json", json.dumps({"categories": categories, "info": info}, indent=2))
    return undivided(stem=upload)


def label_studio_voc(folder: Path) -> Expected:
    """Pascal VOC: whole pixels from 0, and no XML for an image without objects."""

    def whole(box: Box) -> Box:
        x, y, width, height = (float(int(value)) for value in xywh(box))
        return x, y, x + width, y + height

    def fields(label: str, box: Box) -> list[Node]:
        values = [("name", label), ("pose", "Unspecified"), ("truncated", 0), ("difficult", 0)]
        return [*values, bndbox(map(int, whole(box)))]

    draw_all(folder / "images", lambda image: f"{upload(image)}.jpg")
    source = [("database", "MyDatabase"), ("annotation", "COCO2017"), ("image", "flickr"), ("flickrid", "NULL")]
    owner = [("flickrid", "NULL"), ("name", "Label Studio")]
    declaration = '<?xml version="1.0" encoding="utf-8"?>\n'
    for image in IMAGES:
        if image.boxes:
            head = [("folder", "images"), ("filename", f"{upload(image)}.jpg")]
            head += [("source", [*source, ("annotator", 1)]), ("owner", owner)]
            path = folder / "Annotations" / f"{upload(image)}.xml"
            voc(path, image, head, fields, indent="", declaration=declaration)
    return undivided(stem=upload, box=whole, categories=USED, unlabelled=True)


def label_studio_json(folder: Path) -> Expected:
    """JSON, Label Studio's own list of tasks: boxes in percent, and no images."""
    tasks = []
    for i, image in enumerate(IMAGES, 1):
        width, height = image.size
        results = [
            {
                **{"original_width": width, "original_height": height, "image_rotation": 0},
                "value": {
                    **{"x": x1 / width * 100, "y": y1 / height * 100, "width": (x2 - x1) / width * 100},
                    **{"height": (y2 - y1) / height * 100, "rotation": 0, "rectanglelabels": [label]},
                },
                **{"id": "aB3_", "from_name": "label", "to_name": "image", "type": "rectanglelabels"},
            }
            for label, (x1, y1, x2, y2) in image.boxes
        ]
        completed = [{"id": i, "completed_by": 1, "result": results, "was_cancelled": False}]
        tasks.append({"id": i, "annotations": completed, "data": {"image": f"/data/upload/1/{upload(image)}.jpg"}})
    write(folder / "project-1-at-2026-01-02-03-04-0a1b2c3d.json", json.dumps(tasks))
    return undivided(stem=upload, refused="Label Studio")


# Roboflow ------------------------------------------------------------------------------------------------------------

ROBOFLOW_PARTS = {"train": "train", "val": "valid", "test": "test"}


def augmented(image: Picture) -> str:
    """The name of an image of a version: the original's with its suffix, and a hash."""
    return f"{image.name}_jpg.rf.{image.name[-1] * 32}"


def roboflow(folder: Path, images: str = "") -> list[tuple[Path, tuple[Picture, ...]]]:
    """The folder of each part and its images, drawn into it or one below; README files."""
    write(folder / "README.dataset.txt", "# plates > 2026-01-02 3:04am\nhttps://universe.roboflow.com/steel/plates\n")
    write(folder / "README.roboflow.txt", "\nplates - v1\n\nThe dataset includes 6 images.\n")
    places = [(folder / ROBOFLOW_PARTS[part], each) for part, each in TRUTH.items()]
    for place, each in places:
        for image in each:
            draw(place / images, image, f"{augmented(image)}.jpg")
    return places


def roboflow_coco(folder: Path, project: str = "plates") -> Expected:
    """COCO: a file in each part's folder, and a category 0 for the project itself, which nothing has."""

    def fields(box: Box) -> dict[str, Any]:
        sides = [int(value) if value == int(value) else value for value in xywh(box)]
        return {"bbox": sides, "area": sides[2] * sides[3], "segmentation": [], "iscrowd": 0}

    moment = "2026-01-02T03:04:05+00:00"
    info = {"year": "2026", "version": "1", "description": "Exported from roboflow.com", "contributor": ""}
    for place, images in roboflow(folder):
        data = {
            "info": {**info, "url": "https://public.roboflow.com/object-detection/undefined", "date_created": moment},
            "licenses": [{"id": 1, "url": "https://creativecommons.org/licenses/by/4.0/", "name": "CC BY 4.0"}],
            "categories": [
                {"id": 0, "name": project, "supercategory": "none"},
                *({"id": i, "name": name, "supercategory": project} for i, name in enumerate(DECLARED, 1)),
            ],
            "images": [
                {
                    **{"id": i, "license": 1, "file_name": f"{augmented(image)}.jpg", "height": image.size[1]},
                    **{"width": image.size[0], "date_captured": moment, "extra": {"name": image.file}},
                }
                for i, image in enumerate(images)
            ],
            "annotations": annotations(images, from_one(DECLARED), fields, first=0),
        }
        write(place / "_annotations.coco.json", json.dumps(data, separators=(",", ":")))
    mac_archive(folder, "train/_annotations.coco.json", f"train/{augmented(IMAGES[0])}.jpg")
    return parted(stem=augmented)


def roboflow_coco_named_like_a_class(folder: Path) -> Expected:
    """The same where the project is called what one of its classes is called, so that two categories share a name."""
    return roboflow_coco(folder, project="scratch")


def roboflow_yolo(
    folder: Path, places: Sequence[str] = ("../train/images", "../valid/images", "../test/images")
) -> Expected:
    """YOLOv8: the YAML's paths lead to ``../train/images``, while the folder is ``train/images`` next to it."""
    for place, images in roboflow(folder, "images"):
        for image in images:
            yolo(place / "labels" / f"{augmented(image)}.txt", image, number=str, last="")
    train, val, test = places
    write(
        folder / "data.yaml",
        f"train: {train}\nval: {val}\ntest: {test}\n\nnc: 3\nnames: {list(DECLARED)}\n\nroboflow:\n"
        "  workspace: steel\n  project: plates\n  version: 1\n  license: CC BY 4.0\n"
        "  url: https://universe.roboflow.com/steel/plates/dataset/1",
    )
    return parted(stem=augmented)


def roboflow_yolo_downloaded(folder: Path) -> Expected:
    """The same fetched by Roboflow's Python package, which makes two of three paths those of the machine it ran on."""
    home = "/home/ann/datasets/plates-1"
    return roboflow_yolo(folder, (f"{home}/train/images", f"{home}/valid/images", "../test/images"))


def roboflow_voc(folder: Path) -> Expected:
    """Pascal VOC next to the images of each part; the order is xmin, xmax, ymin, ymax, and every corner counts from 1,
    so that a box at the right border ends one beyond the image's width."""

    def fields(label: str, box: Box) -> list[Node]:
        flags = [("pose", "Unspecified"), ("truncated", 0), ("difficult", 0), ("occluded", 0)]
        return [("name", label), *flags, bndbox((int(side) + 1 for side in box), ("xmin", "xmax", "ymin", "ymax"))]

    for place, images in roboflow(folder):
        for image in images:
            name = f"{augmented(image)}.jpg"
            head = [("folder", ""), ("filename", name), ("path", name), ("source", [("database", "roboflow.com")])]
            voc(place / f"{augmented(image)}.xml", image, head, fields, depth=3, indent="\t")
    return parted(stem=augmented, box=floor, categories=USED, tolerance=1)


# Ultralytics and Darknet ---------------------------------------------------------------------------------------------


def ultralytics(
    folder: Path,
    paths: str,
    *,
    names: str = "names:\n  0: scratch\n  1: dent\n  2: rolled in\n",
    place: Callable[[str, Picture], str] = lambda part, image: part,
    inner: str = "{kind}/{place}",
    **row: Any,
) -> None:
    """Images and labels in ``images/<place>`` and ``labels/<place>``, with the caches that a training leaves."""
    for part, images in TRUTH.items():
        for image in images:
            where = [folder / inner.format(kind=kind, place=place(part, image)) for kind in ("images", "labels")]
            draw(where[0], image)
            if image.boxes:
                yolo(where[1] / f"{image.name}.txt", image, **row)
            where[1].mkdir(parents=True, exist_ok=True)
            where[1].with_suffix(".cache").write_bytes(b"\x93NUMPY\x01\x00")
    write(folder / "plates.yaml", f"# Plates\n{paths}\n# Classes\n{names}")
    write(folder / "README.md", "# Plates\n")
    write(folder / "LICENSE", "AGPL-3.0\n")


def ultralytics_relative_path(folder: Path) -> Expected:
    """``path`` is relative to Ultralytics' folder of data sets, not to the YAML; a key may have no value."""
    paths = "path: plates # dataset root dir\ntrain: images/train\nval: images/val\ntest: images/test\nminitrain:\n"
    ultralytics(folder, paths)
    return parted()


def ultralytics_absolute_path(folder: Path) -> Expected:
    """``path`` is that of another machine; names are a list."""
    paths = "path: D:\\datasets\\plates\ntrain: images/train\nval: images/val\ntest: images/test\n"
    ultralytics(folder, paths, names="nc: 3\nnames: ['scratch', 'dent', 'rolled in']\n")
    return parted()


def ultralytics_no_path(folder: Path) -> Expected:
    """Folders of parts with images and labels in them."""
    paths = "train: ./train/images/\nval: ./val/images/\ntest: ./test/images/\n"
    ultralytics(folder, paths, inner="{place}/{kind}", names="names:\n- scratch\n- dent\n- rolled in\nnc: 3\n")
    return parted()


def ultralytics_folder_lists(folder: Path) -> Expected:
    """A part is a list of folders."""
    paths = "path: .\ntrain: [images/day 1, images/day 2]\nval:\n  - images/day 3\ntest: images/day 4\n"
    days = {"plate_1": "day 1", "plate_2": "day 2", "plate_3": "day 2", "plate_6": "day 4"}
    ultralytics(folder, paths, place=lambda part, image: days.get(image.name, "day 3"))
    return parted()


def ultralytics_text_lists(folder: Path) -> Expected:
    """A part is a text file of image paths, with spaces, relative or of another machine; one folder has all images."""
    paths = "path: ../datasets/plates\ntrain: train.txt\nval: val.txt\ntest: test.txt\n"
    ultralytics(folder, paths, place=lambda part, image: "day 1")
    for part, images in TRUTH.items():
        start = "/home/ann/datasets/plates/" if part == "test" else "./"
        write(folder / f"{part}.txt", lines(f"{start}images/day 1/{image.file}" for image in images))
    return parted()


ULTRALYTICS_PATHS = "path: .\ntrain: images/train\nval: images/val\ntest: images/test\n"


def ultralytics_segment(folder: Path) -> Expected:
    """Outlines of any number of points; where tools mix them, boxes stand in the same files."""

    def outline_or_box(box: Box, size: tuple[int, int]) -> list[float]:
        if box[0] == 50:
            return centre_and_size(box, size)
        return [*four_corners(box, size), box[0] / size[0], (box[1] + box[3]) / 2 / size[1]]

    ultralytics(folder, ULTRALYTICS_PATHS, row=outline_or_box)
    return parted(converted="polygons to the boxes around them")


def ultralytics_obb(folder: Path) -> Expected:
    ultralytics(folder, ULTRALYTICS_PATHS, row=four_corners)
    return parted(converted="turned boxes to the upright boxes around them")


def ultralytics_pose(folder: Path) -> Expected:
    """Box and key points; two without visibility make nine numbers, which could as well be a polygon of four points."""

    def box_and_points(box: Box, size: tuple[int, int]) -> list[float]:
        return [*centre_and_size(box, size), 0.5, 0.5, 0.0, 0.0]

    ultralytics(folder, ULTRALYTICS_PATHS + "kpt_shape: [2, 2]\nflip_idx: [1, 0]\n", row=box_and_points)
    return parted(converted="key points are left out")


def darknet(folder: Path) -> Expected:
    """Paths are relative to Darknet's own folder; Notepad has saved the lists with a byte order mark."""
    data = folder / "data"
    draw_all(data / "obj")
    for image in IMAGES:
        yolo(data / "obj" / f"{image.name}.txt", image)
    windows = {"encoding": "utf-8-sig", "newline": "\r\n"}
    for part, images in TRUTH.items():
        write(data / f"{part}.txt", lines(f"data/obj/{image.file}" for image in images), **windows)
    write(data / "obj.names", lines(DECLARED), **windows)
    lists = ["train  = data/train.txt", "valid  = data/val.txt", "test = data/test.txt"]
    write(data / "obj.data", lines(["classes= 3", *lists, "names = data/obj.names", "backup = backup/"]))
    return parted()


# VOC devkit, VoTT, COCO 2017, FiftyOne, supervision ------------------------------------------------------------------


def voc_devkit(folder: Path) -> Expected:
    """VOC2012 itself: from 1, parts with boxes of their own, lists per class, a union of two lists, and masks."""
    root = folder / "VOCdevkit" / "VOC2012"
    draw_all(root / "JPEGImages")
    source = [("database", "The VOC2008 Database"), ("annotation", "PASCAL VOC2008"), ("image", "flickr")]

    def fields(label: str, box: Box) -> list[Node]:
        x1, y1, x2, y2 = box
        part = ("part", [("name", "head"), bndbox((x1 + 2, y1 + 2, x1 + 4, y1 + 4))])
        values = [("name", label), ("pose", "Unspecified"), ("truncated", 1), ("occluded", 0)]
        return [*values, bndbox((x1 + 1, y1 + 1, x2, y2), ("xmax", "xmin", "ymax", "ymin")), ("difficult", 0), part]

    for image in IMAGES:
        head = [("folder", "VOC2012"), ("filename", image.file), ("source", source)]
        voc(root / "Annotations" / f"{image.name}.xml", image, head, fields, depth=3, indent="\t")
        if image.boxes:
            for kind in ("SegmentationClass", "SegmentationObject"):
                draw(root / kind, image, f"{image.name}.png", seed=200)
    for task in ("Main", "Segmentation"):
        image_sets(root, task)
        both = [image.name for part in ("train", "val") for image in TRUTH[part]]
        write(root / "ImageSets" / task / "trainval.txt", lines(both))
    for name in USED:
        rows = [f"{image.name} {1 if name in dict(image.boxes) else -1:2d}" for image in TRUTH["train"]]
        write(root / "ImageSets" / "Main" / f"{name}_train.txt", lines(rows))
    write(root / "ImageSets" / "Layout" / "train.txt", "plate_1 1\n")
    return parted(categories=USED)


def vott_voc(folder: Path) -> Expected:
    """Fractions, from 0, in ``<project>-PascalVOC-export``; only lists per class divide it, with file names."""
    root = folder / "plates-PascalVOC-export"

    def fields(label: str, box: Box) -> list[Node]:
        values = [("name", label), ("pose", "Unspecified"), ("truncated", 0), ("difficult", 0)]
        return [*values, bndbox(f"{side:g}" for side in box)]

    draw_all(root / "JPEGImages")
    for image in IMAGES:
        path = f"plates-PascalVOC-export/Annotations/{image.file}"
        head = [("folder", "Annotation"), ("filename", image.file), ("path", path)]
        voc(root / "Annotations" / f"{image.name}.xml", image, [*head, ("source", [("database", "Unknown")])], fields)
    for name in USED:
        rows = [f"{image.file} {1 if name in dict(image.boxes) else -1}" for image in IMAGES]
        for part, some in {"val": rows[:2], "train": rows[2:]}.items():
            write(root / "ImageSets" / "Main" / f"{name}_{part}.txt", "\r\n".join(some))
    items = [f"item {{\n id: {i}\n name: '{name}'\n}}\n" for i, name in enumerate(DECLARED, 1)]
    write(root / "pascal_label_map.pbtxt", "".join(items))
    return undivided(categories=USED)


def coco_2017(folder: Path) -> Expected:
    """COCO itself: ``annotations`` also has captions and key points of the same images; ids have gaps."""
    ids = dict(zip(DECLARED, (1, 2, 90)))
    info = {"description": "COCO 2017 Dataset", "version": "1.0", "year": 2017, "date_created": "2017/09/01"}
    for part, images in TRUTH.items():
        entries = []
        for i, image in enumerate(images, 397133):
            draw(folder / f"{part}2017", image)
            size = {"height": image.size[1], "width": image.size[0]}
            entries.append({"license": 4, "file_name": image.file, "coco_url": "", **size, "id": i})

        def fields(box: Box) -> dict[str, Any]:
            outline = [value for point in corners(box) for value in point]
            return {"segmentation": [outline], "area": area(box), "iscrowd": 0, "bbox": xywh(box)}

        data = {"info": info, "licenses": [{"url": "", "id": 4, "name": ""}], "images": entries}
        found = [
            {**each, "image_id": each["image_id"] - 1 + 397133} for each in annotations(images, ids, fields, first=1)
        ]
        categories = [{"supercategory": "defect", "id": i, "name": name} for name, i in ids.items()]
        captions = [{"image_id": 397133, "id": 1, "caption": "A steel plate."}]
        boxes = {"annotations": found, "categories": categories}
        for kind, more in (("instances", boxes), ("captions", {"annotations": captions})):
            write(folder / "annotations" / f"{kind}_{part}2017.json", json.dumps({**data, **more}))
    return parted(converted="polygons to the boxes around them")


def fiftyone_coco(folder: Path) -> Expected:
    """COCODetectionDataset, a folder per part; much is null."""

    def fields(box: Box) -> dict[str, Any]:
        return {"bbox": xywh(box), "area": area(box), "iscrowd": 0}

    info = {"year": "", "version": "", "contributor": "", "url": "https://voxel51.com/fiftyone"}
    for part, images in TRUTH.items():
        entries = []
        for i, image in enumerate(images, 1):
            draw(folder / part / "data", image)
            size = {"height": image.size[1], "width": image.size[0]}
            entries.append({"id": i, "file_name": image.file, **size, "license": None, "coco_url": None})
        data = {
            "info": {**info, "date_created": "2026-01-02T03:04:05"},
            "licenses": [],
            "categories": [{"id": i, "name": name, "supercategory": None} for i, name in enumerate(DECLARED, 1)],
            "images": entries,
            "annotations": annotations(images, from_one(DECLARED), fields, first=1),
        }
        write(folder / part / "labels.json", json.dumps(data))
    return parted()


def fiftyone_yolo(folder: Path) -> Expected:
    """YOLOv5Dataset; the last row does not end, and ``path`` is that of the machine it ran on."""
    for part, images in TRUTH.items():
        for image in images:
            draw(folder / "images" / part, image)
            yolo(folder / "labels" / part / f"{image.name}.txt", image, last="")
    names = [f"  {i}: {name}" for i, name in enumerate(DECLARED)]
    lists = [f"{part}: ./images/{part}/" for part in sorted(TRUTH)]
    write(folder / "dataset.yaml", lines(["names:", *names, "path: /home/ann/exports/plates", *lists]))
    return parted()


def fiftyone_yolov4(folder: Path) -> Expected:
    """YOLOv4Dataset: ``obj.names`` and a list of images, but no ``obj.data``."""
    draw_all(folder / "data")
    for image in IMAGES:
        yolo(folder / "data" / f"{image.name}.txt", image, last="")
    write(folder / "obj.names", "\n".join(DECLARED))
    write(folder / "images.txt", "\n".join(f"data/{image.file}" for image in IMAGES))
    return undivided()


def fiftyone_voc(folder: Path) -> Expected:
    """VOCDetectionDataset, a folder per part: whole pixels from 0, cut, not rounded; no flags."""

    def fields(label: str, box: Box) -> list[Node]:
        return [("name", label), bndbox(map(int, box))]

    for part, images in TRUTH.items():
        for image in images:
            draw(folder / part / "data", image)
            path = f"/home/ann/exports/plates/{part}/data/{image.file}"
            head = [("folder", ""), ("filename", image.file), ("path", path), ("source", [("database", "")])]
            voc(folder / part / "labels" / f"{image.name}.xml", image, head, fields, segmented="", indent="    ")
    return parted(box=floor, categories=USED)


def fiftyone_dataset(folder: Path) -> Expected:
    """FiftyOneDataset, its own format."""
    draw_all(folder / "data")
    samples = []
    for image in IMAGES:
        found = [
            {"_cls": "Detection", "tags": [], "label": label, "bounding_box": centre_and_size(box, image.size)}
            for label, box in image.boxes
        ]
        labels = {"_cls": "Detections", "detections": found}
        samples.append({"filepath": f"data/{image.file}", "tags": ["train"], "ground_truth": labels})
    write(folder / "samples.json", json.dumps({"samples": samples}))
    write(folder / "metadata.json", json.dumps({"name": "plates", "media_type": "image", "sample_fields": []}))
    return undivided(refused="FiftyOne")


def supervision_voc(folder: Path) -> Expected:
    """``as_pascal_voc``, rounded and from 1 as VOC itself, but in the name of Roboflow, whose own exports differ."""

    def rounded(box: Box) -> Box:
        x1, y1, x2, y2 = box
        return round(x1 + 1) - 1, round(y1 + 1) - 1, round(x2), round(y2)

    def fields(label: str, box: Box) -> list[Node]:
        x1, y1, x2, y2 = rounded(box)
        return [("name", label), bndbox((x1 + 1, y1 + 1, x2, y2))]

    draw_all(folder / "images")
    for image in IMAGES:
        head = [("folder", "VOC"), ("filename", image.file), ("source", [("database", "roboflow.ai")])]
        declaration = '<?xml version="1.0" ?>\n'
        voc(folder / "annotations" / f"{image.name}.xml", image, head, fields, depth=3, declaration=declaration)
    return undivided(box=rounded, categories=USED)


def supervision_yolo(folder: Path) -> Expected:
    """``as_yolo``: a YAML of names alone, five decimals."""
    draw_all(folder / "images")
    for image in IMAGES:
        yolo(folder / "labels" / f"{image.name}.txt", image, number=lambda value: f"{value:.5f}")
    write(folder / "data.yaml", "nc: 3\nnames: [scratch, dent, rolled in]\n")
    return undivided()


# Other formats of their own ------------------------------------------------------------------------------------------


def via_json(folder: Path) -> Expected:
    """VGG Image Annotator's regions; keys are the file's name and its size in bytes."""
    regions = {}
    for image in IMAGES:
        size = draw(folder, image).stat().st_size
        found = []
        for label, box in image.boxes:
            x, y, width, height = map(int, xywh(box))
            shape = {"name": "rect", "x": x, "y": y, "width": width, "height": height}
            found.append({"shape_attributes": shape, "region_attributes": {"defect": label}})
        entry = {"filename": image.file, "size": size, "regions": found, "file_attributes": {}}
        regions[f"{image.file}{size}"] = entry
    write(folder / "via_export_json.json", json.dumps(regions))
    return undivided(categories=USED, refused="VGG Image Annotator")


def supervisely(folder: Path) -> Expected:
    """A folder per data set with ``img`` and ``ann``, a JSON file per image and one for the classes."""
    draw_all(folder / "ds0" / "img")
    for image in IMAGES:
        found = [
            {
                **{"id": i, "classTitle": label, "geometryType": "rectangle", "tags": []},
                "points": {"exterior": [list(map(int, box[:2])), list(map(int, box[2:]))], "interior": []},
            }
            for i, (label, box) in enumerate(image.boxes)
        ]
        size = {"height": image.size[1], "width": image.size[0]}
        entry = {"description": "", "tags": [], "size": size, "objects": found}
        write(folder / "ds0" / "ann" / f"{image.file}.json", json.dumps(entry))
    classes = [{"title": name, "shape": "rectangle", "color": "#FF0000"} for name in DECLARED]
    write(folder / "meta.json", json.dumps({"classes": classes, "tags": [], "projectType": "images"}))
    return undivided(refused="Supervisely")


def yolo_without_names(folder: Path) -> Expected:
    """Text files of numbers alone, as many scripts leave them: what the classes are called stands nowhere."""
    draw_all(folder / "images")
    for image in IMAGES:
        yolo(folder / "labels" / f"{image.name}.txt", image)
    return undivided(refused="names")


Layout = Callable[[Path], Expected]
COCO_LAYOUTS: tuple[Layout, ...] = (
    *(cvat_coco, cvat_coco_polygons, label_studio_coco, label_studio_coco_server_paths),
    *(roboflow_coco, roboflow_coco_named_like_a_class, coco_2017, fiftyone_coco),
)
LAYOUTS: tuple[Layout, ...] = (
    *COCO_LAYOUTS,
    *(labelimg_voc, labelimg_yolo, labelimg_createml),
    *(labelme_rectangles, labelme_windows_paths, labelme_polygons, labelme_oriented_rectangles),
    *(labelme_circles, labelme_lines, labelme2voc),
    *(cvat_yolo, cvat_ultralytics_yolo, cvat_voc, cvat_images_xml, cvat_video_xml, cvat_labelme),
    *(datumaro_voc, datumaro_ultralytics_yolo, datumaro_json),
    *(label_studio_yolo, label_studio_voc, label_studio_json),
    *(roboflow_yolo, roboflow_yolo_downloaded, roboflow_voc),
    *(ultralytics_relative_path, ultralytics_absolute_path, ultralytics_no_path, ultralytics_folder_lists),
    *(ultralytics_text_lists, ultralytics_segment, ultralytics_obb, ultralytics_pose, darknet),
    *(voc_devkit, vott_voc, fiftyone_yolo, fiftyone_yolov4, fiftyone_voc, fiftyone_dataset),
    *(supervision_voc, supervision_yolo, via_json, supervisely, yolo_without_names),
)
