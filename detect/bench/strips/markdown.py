"""The tables about memory as Markdown, with what each claim is held against said below it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..cells import mean, signed, table
from .truth import ALL, DEGRADED, SEEN_BEFORE
from .watching import INCOMING, LIGHT, SEEN, SKIPPED_FORESEEN, SKIPPED_MOVED

Rows = Sequence[dict[str, Any]]


def to_markdown(results: dict[str, Any]) -> str:
    """What ``judge_strips`` found."""
    data = results["data"]
    conditions = ", ".join(f"{count:,} {name}" for name, count in data["conditions"].items())
    bad = f" ({conditions})" if len(data["conditions"]) > 1 else ""
    title = f"Judged on {data['frames']:,} frames{bad} of {data['strips']:,} strips with {data['boxes']:,} boxes."
    blocks = [[title], _systems(results["systems"])]
    blocks += _bad_frames(results) + _key_frames(results) + _foreseeing(results) + [[_explanation(results)]]
    return "\n\n".join("\n".join(lines) for lines in blocks) + "\n"


def _systems(systems: Rows) -> list[str]:
    columns = ["system", "memory", "parameters", "runs", "epochs"]
    memory = {None: "none", True: "yes", False: "forgets"}
    return table(
        columns,
        [
            [
                row["name"],
                memory[row["memory"]],
                f"{row['parameters']:,}",
                str(len(row["runs"])),
                ", ".join(sorted({str(run["epoch"]) for run in row["runs"]})),
            ]
            for row in systems
        ],
    )


def _bad_frames(results: dict[str, Any]) -> list[list[str]]:
    rows = results["bad_frames"]
    parts = list(rows[0]["scores"])
    blocks = [["## Bad frames"]]
    for key in ("AP50", "AP"):
        cells = [[row["name"], *(mean(row["scores"][part][key]) for part in parts)] for row in rows]
        blocks.append(table([key, *parts], cells))
    compared = [row for row in rows if (row["way"] == SEEN) != (row["system"] == results["against"])]
    blocks += _compared(compared, [ALL, DEGRADED] if DEGRADED in parts else [ALL])
    text = (
        "Frames in bad condition are judged by the boxes of what they ought to show. Averaged over frames: boxes of "
        "earlier frames, carried on with the surface and matched by class and IoU, and scores averaged over the frames "
        "that saw the place, 0 where one found nothing. It needs no training, so a memory has to beat it."
    )
    none = "" if DEGRADED in parts else " No frame is recorded to be in bad condition."
    return [*blocks, [text + none]]


def _key_frames(results: dict[str, Any]) -> list[list[str]]:
    rows = results["key_frames"]
    columns = ["system", "between", "key frame every", "AP50", "frames/s", "times the frames"]
    columns += ["AP50 against every frame", ""]
    cells = []
    for row in rows:
        figures = [
            mean(row["scores"][ALL]["AP50"]),
            f"{row['frames_per_second']:.1f}",
            f"{row['times_the_frames']:.2f}",
        ]
        own = row["differences"].get(row["system"]) if row["every"] > 1 else None
        cells.append([row["system"], row["between"] or "-", str(row["every"]), *figures, *_verdict(own, ALL)])
    others = [
        {**row, "differences": {name: each for name, each in row["differences"].items() if name != row["system"]}}
        for row in rows
        if row["system"] != results["against"]
    ]
    speed = results["speed"]
    threads = f"{speed['threads']} thread{'s' * (speed['threads'] > 1)}"
    text = (
        f"Between key frames, by the {LIGHT}: it sees the frame. By the {INCOMING}: the full network looks at what "
        "has just come into view and a margin, and the other boxes are moved with the surface. "
        f"'{SKIPPED_MOVED.capitalize()}' and '{SKIPPED_FORESEEN}' look at nothing, which the others have to beat. "
        "Frames/s "
        "come from the median time of a key frame and of one between, from array to boxes, one frame at a time, on "
        f"{speed['device']} with {threads}, all in turns: ratios hold, frames/s compare with no other table's."
    )
    return [["## Speed"], table(columns, cells), *_compared(others, [ALL]), [text]]


def _foreseeing(results: dict[str, Any]) -> list[list[str]]:
    rows = results["foreseeing"]
    parts = {ALL: "AP50, all objects", SEEN_BEFORE: "AP50, seen before"}
    cells = [[row["system"], row["way"], *(mean(row["scores"][part]["AP50"]) for part in parts)] for row in rows]
    blocks = [["## Foreseeing"], table(["system", "boxes of the next frame", *parts.values()], cells)]
    blocks += _compared(rows, list(parts))
    text = (
        "Boxes of a frame before it is seen, judged on all frames but each strip's first. Nobody can foresee surface "
        "that has just come into view; in the column of objects seen before, those of which less than half of the box "
        "was in view in the frame before count neither as hit nor as miss. All ways are told the same of how far the "
        "surface will have moved."
    )
    return [*blocks, [text]]


def _compared(rows: Rows, parts: Sequence[str]) -> list[list[str]]:
    """AP50 of each row against each that it is held against; nothing where there is none."""
    cells = [
        [row["name"], other, *(cell for part in parts for cell in _verdict(each, part))]
        for row in rows
        for other, each in row["differences"].items()
    ]
    columns = ["AP50 of", "against", *(name for part in parts for name in (part, ""))]
    return [table(columns, cells)] if cells else []


def _verdict(difference: dict[str, Any] | None, part: str) -> list[str]:
    if difference is None:
        return ["", ""]
    return [signed(difference[part]["AP50"]), difference[part]["AP50"]["verdict"]]


def _explanation(results: dict[str, Any]) -> str:
    told = {
        "recorded": "The motion between frames is taken from their recorded places, as an encoder would tell it.",
        "read": "The motion between frames is read from them; a frame not seen yet is taken to move on as before.",
    }
    if results["interval_covers"] == "strips":
        covers = "They cover the choice of strips; of a system with one run nothing is known of other seeds."
    else:
        covers = "They cover the choice of strips and of seeds."
    return (
        f"{told[results['motion']]} Scores are means over runs ± the standard deviation from run to run, of the "
        "averaged weights after the last epoch. Differences are paired, both on the same resampled strips, which are "
        "drawn whole. "
        f"Intervals hold {100 * results['confidence']:g} %, by {results['resamples']:,} bootstrap resamples. {covers}"
    )
