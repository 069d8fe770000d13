"""Run detect infer --stream for minutes or hours on generated frames, and report whether its memory grows.

    python benchmarks/soak_stream.py --minutes 30 --log soak.jsonl
    python benchmarks/soak_stream.py --minutes 5 --weights runs/mine --side 400

Writes frames of a moving strip into a folder as fast as they are processed: a new strip every 1,000 frames, every 100th
file truncated, and processed files removed, as on a production line. Memory and number of frames are logged every 5
seconds. After an interruption, the same command continues with the remaining minutes in a new process. Without
--weights the detector is the default one with a memory over frames and random weights. Linux only, for the memory.
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
from measure_strip import write_weights

_STRIP_FRAMES, _TRUNCATED_EVERY, _STEP_PX = 1000, 100, 20
_AHEAD = 32  # unprocessed files in the folder
_EVERY_S = 5.0


class Feeder:
    """Writes frames into a folder, and removes processed frames."""

    def __init__(self, folder: Path, side: int) -> None:
        self.folder, self.side = folder, side
        self.surface = np.random.default_rng(0).normal(128, 20, (side, 64 * side)).clip(0, 255).astype(np.uint8)
        self.written = self.removed = 0

    def path(self, number: int) -> Path:
        return self.folder / f"strip_{number // _STRIP_FRAMES}" / f"{number % _STRIP_FRAMES:06d}.bmp"

    def fill(self, processed: int) -> None:
        while self.removed < processed:
            self.path(self.removed).unlink()
            self.removed += 1
            if self.removed % _STRIP_FRAMES == 0:
                self.path(self.removed - 1).parent.rmdir()
        while self.written < processed + _AHEAD:
            left = self.written * _STEP_PX % (self.surface.shape[1] - self.side)
            path = self.path(self.written)
            path.parent.mkdir(exist_ok=True)
            hidden = path.with_name(f".{path.name}")
            write_image(hidden, np.ascontiguousarray(self.surface[:, left : left + self.side]))
            if self.written % _TRUNCATED_EVERY == _TRUNCATED_EVERY - 1:
                hidden.write_bytes(hidden.read_bytes()[: self.side * self.side // 2])
            hidden.rename(path)
            self.written += 1


def resident_megabytes(process: int) -> float:
    lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1000


class Counter:
    """Counts the frames in the output files of the stream as they grow."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.frames = folder, 0
        self.offsets: dict[str, int] = {}

    def read(self) -> int:
        for path in sorted(self.folder.glob("*.jsonl"), key=lambda each: each.stat().st_mtime)[-2:]:
            with path.open("rb") as file:
                file.seek(self.offsets.get(path.name, 0))
                for line in file:
                    if line.endswith(b"\n"):
                        self.offsets[path.name] = self.offsets.get(path.name, 0) + len(line)
                        self.frames += b'"summary"' not in line
        return self.frames


def run(minutes: float, before: float, log: Path, args: argparse.Namespace) -> int:
    """Run and monitor one process; returns its exit code."""
    with tempfile.TemporaryDirectory() as folder:
        incoming, output = Path(folder) / "incoming", Path(folder) / "output"
        incoming.mkdir()
        output.mkdir()
        weights = args.weights or Path(folder) / "best.pt"
        if args.weights is None:
            write_weights(weights, args.side, memory={"kind": "gru"})
        words = ["infer", "--stream", incoming, "--weights", weights, "--out", output, "--device", args.device]
        errors = (Path(folder) / "stderr.txt").open("w")
        process = subprocess.Popen([sys.executable, "-m", "detect", *map(str, words)], stderr=errors)
        feeder, counter, started, logged = Feeder(incoming, args.side), Counter(output), time.monotonic(), -_EVERY_S
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
        lines = (Path(folder) / "stderr.txt").read_text().splitlines()
        print("\n".join(line for line in lines if "damaged" not in line))
        return code


def print_summary(log: Path) -> None:
    """Print memory at the start, middle and end of each process, and frames per second."""
    lines: list[dict[str, Any]] = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    for number in dict.fromkeys(line["run"] for line in lines):
        own = [line for line in lines if line["run"] == number]
        parts = {"first tenth": (0, 0.1), "middle": (0.45, 0.55), "last tenth": (0.9, 1)}
        print(f"{own[-1]['minutes'] - own[0]['minutes']:.1f} minutes, {own[-1]['frames']:,} frames")
        for name, (low, high) in parts.items():
            part = own[int(low * len(own)) : max(int(high * len(own)), int(low * len(own)) + 1)]
            print(f"{name:>12}: {np.median([line['megabytes'] for line in part]):,.1f} MB")
        seconds = 60 * (own[-1]["minutes"] - own[0]["minutes"])
        if seconds:
            print(f"{(own[-1]['frames'] - own[0]['frames']) / seconds:.1f} frames/s")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--side", type=int, default=200, help="side of a frame in pixels")
    parser.add_argument("--log", type=Path, default=Path("soak.jsonl"))
    parser.add_argument("--weights", type=Path, metavar="RUN")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args(argv)
    before = 0.0
    if args.log.exists():
        before = max((json.loads(line)["minutes"] for line in args.log.read_text().splitlines()), default=0.0)
    code = run(args.minutes - before, before, args.log, args) if before < args.minutes else 0
    print_summary(args.log)
    return code


if __name__ == "__main__":
    sys.exit(main())
