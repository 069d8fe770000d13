"""Run detect infer --stream for minutes or hours on frames made by code, and tell whether its memory stays flat.

    python benchmarks/soak_stream.py --minutes 30 --log soak.jsonl
    python benchmarks/soak_stream.py --minutes 5 --weights runs/mine --side 400

Fills a folder with frames of a moving strip, as fast as they are looked at: a new strip every 1,000 frames, every 100th
file torn, and files that have been looked at removed, as on a line. Memory and frames are logged every few seconds; the
same command after an interruption goes on with the minutes that are left, in a new process. Without --weights the
detector is the default one with a memory over frames, with random weights. Linux only, which tells the memory.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from detect.images import write_image

_STRIP_FRAMES, _TORN_EVERY, _STEP_PX = 1000, 100, 20
_AHEAD = 32  # files in the folder that nobody has looked at yet
_EVERY_S = 5.0


class Feeder:
    """Writes frames into a folder, and removes those that have been looked at."""

    def __init__(self, folder: Path, side: int) -> None:
        self.folder, self.side = folder, side
        self.surface = np.random.default_rng(0).normal(128, 20, (side, 64 * side)).clip(0, 255).astype(np.uint8)
        self.written = self.removed = 0

    def path(self, number: int) -> Path:
        return self.folder / f"strip_{number // _STRIP_FRAMES}" / f"{number % _STRIP_FRAMES:06d}.bmp"

    def fill(self, looked_at: int) -> None:
        while self.removed < looked_at:
            self.path(self.removed).unlink()
            self.removed += 1
            if self.removed % _STRIP_FRAMES == 0:
                self.path(self.removed - 1).parent.rmdir()
        while self.written < looked_at + _AHEAD:
            left = self.written * _STEP_PX % (self.surface.shape[1] - self.side)
            path = self.path(self.written)
            path.parent.mkdir(exist_ok=True)
            hidden = path.with_name(f".{path.name}")
            write_image(hidden, np.ascontiguousarray(self.surface[:, left : left + self.side]))
            if self.written % _TORN_EVERY == _TORN_EVERY - 1:
                hidden.write_bytes(hidden.read_bytes()[: self.side * self.side // 2])
            hidden.rename(path)
            self.written += 1


def write_weights(path: Path, side: int) -> None:
    """The default detector of six classes with a memory, with random weights."""
    from detect.config.schema import ModelConfig
    from detect.models.anchors import default_anchors
    from detect.models.checkpoint import Checkpoint, DetectorSpec, save_checkpoint
    from detect.models.faster_rcnn import proposal_strides

    model = ModelConfig.model_validate({"memory": {"kind": "gru"}})
    shapes = default_anchors(len(proposal_strides(model, 1)))
    detector = DetectorSpec(model, tuple(f"class {i + 1}" for i in range(6)), 1, (0.5,), (0.1,), shapes, side=side)
    save_checkpoint(path, Checkpoint(detector, detector.build().state_dict(), epoch=0))


def resident_megabytes(process: int) -> float:
    lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1000


class Counter:
    """Frames that the stream has told of, read from its files as they grow."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.frames = folder, 0
        self.at: dict[str, int] = {}

    def read(self) -> int:
        for path in sorted(self.folder.glob("*.jsonl"), key=lambda each: each.stat().st_mtime)[-2:]:
            with path.open("rb") as file:
                file.seek(self.at.get(path.name, 0))
                for line in file:
                    if line.endswith(b"\n"):
                        self.at[path.name] = self.at.get(path.name, 0) + len(line)
                        self.frames += b'"summary"' not in line
        return self.frames


def run(minutes: float, before: float, log: Path, args: argparse.Namespace) -> int:
    """One process, watched; its exit code."""
    with tempfile.TemporaryDirectory() as place:
        incoming, found = Path(place) / "incoming", Path(place) / "found"
        incoming.mkdir()
        found.mkdir()
        weights = args.weights or Path(place) / "best.pt"
        if args.weights is None:
            write_weights(weights, args.side)
        words = ["infer", "--stream", incoming, "--weights", weights, "--out", found, "--device", args.device]
        errors = (Path(place) / "stderr.txt").open("w")
        process = subprocess.Popen([sys.executable, "-m", "detect", *map(str, words)], stderr=errors)
        feeder, counter, started, logged = Feeder(incoming, args.side), Counter(found), time.monotonic(), -_EVERY_S
        first: float | None = None
        while process.poll() is None:
            frames = counter.read()
            feeder.fill(frames)
            now = time.monotonic()
            first = now if first is None and frames else first
            elapsed = 0.0 if first is None else now - first
            if first is not None and elapsed - logged >= _EVERY_S:
                logged = elapsed
                line = {"run": started, "minutes": round(before + elapsed / 60, 3), "frames": frames}
                with log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({**line, "megabytes": round(resident_megabytes(process.pid), 1)}) + "\n")
            if elapsed >= 60 * minutes:
                break
            time.sleep(0.02)
        (incoming / "STOP").touch()
        code = process.wait()
        errors.close()
        lines = (Path(place) / "stderr.txt").read_text().splitlines()
        print("\n".join(line for line in lines if "damaged" not in line))
        return code


def tell(log: Path) -> None:
    """Memory at the start, in the middle and at the end of each process, and frames a second."""
    lines: list[dict[str, Any]] = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    for number in dict.fromkeys(line["run"] for line in lines):
        mine = [line for line in lines if line["run"] == number]
        parts = {"first tenth": (0, 0.1), "middle": (0.45, 0.55), "last tenth": (0.9, 1)}
        print(f"{mine[-1]['minutes'] - mine[0]['minutes']:.1f} minutes, {mine[-1]['frames']:,} frames")
        for name, (low, high) in parts.items():
            some = mine[int(low * len(mine)) : max(int(high * len(mine)), int(low * len(mine)) + 1)]
            print(f"{name:>12}: {np.median([line['megabytes'] for line in some]):,.1f} MB")
        seconds = 60 * (mine[-1]["minutes"] - mine[0]["minutes"])
        if seconds:
            print(f"{(mine[-1]['frames'] - mine[0]['frames']) / seconds:.1f} frames a second")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--side", type=int, default=200, help="of a frame in pixels")
    parser.add_argument("--log", type=Path, default=Path("soak.jsonl"))
    parser.add_argument("--weights", type=Path, metavar="RUN")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args(argv)
    before = 0.0
    if args.log.exists():
        before = max((json.loads(line)["minutes"] for line in args.log.read_text().splitlines()), default=0.0)
    code = run(args.minutes - before, before, args.log, args) if before < args.minutes else 0
    tell(args.log)
    return code


if __name__ == "__main__":
    sys.exit(main())
