"""Time our detector and a peer (a detector of another library) in turn, so that other load affects both equally.

    python benchmarks/measure_peer.py released --peer 'PYTHON yolo.py latency --weights best.pt --threads 2' --threads 2

Runs the peer's command and ``detect bench infer`` alternately, --rounds times, each in a separate process. The last
output line of the peer's command must be a JSON object with milliseconds per image at batch 1: ``network_p50_ms`` of
the network alone and ``whole_p50_ms`` from array to boxes. Our times are always from array to boxes.
"""

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from detect.errors import DetectError

_PEER_KEYS = ("network_p50_ms", "whole_p50_ms")


def peer_ms(command: str) -> dict[str, float]:
    """Times reported by the peer's command."""
    try:
        done = subprocess.run(shlex.split(command), capture_output=True, text=True)
    except (OSError, ValueError, IndexError) as error:  # IndexError: an empty command
        raise DetectError(
            f"{command!r} can't be run: {error}", where="--peer", fix="give a command that runs by itself"
        ) from None
    try:
        reported = json.loads(done.stdout.strip().splitlines()[-1])
        return {key: float(reported[key]) for key in _PEER_KEYS}
    except (IndexError, KeyError, TypeError, ValueError):
        last = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
        message = f"{command!r} printed no JSON with {' and '.join(_PEER_KEYS)} (exit code {done.returncode}): {last}"
        raise DetectError(
            message, where="--peer", fix="give a command that times the peer as 'measure_peer.py --help' says"
        ) from None


def our_ms(run: str, runtime: str, threads: int, calls: int) -> float:
    """Median milliseconds per call from array to boxes."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "rows.json"
        words = ["bench", "infer", run, "--runtime", runtime, "--threads", threads, "--calls", calls, "--json", table]
        done = subprocess.run([sys.executable, "-m", "detect", *map(str, words)], capture_output=True, text=True)
        if done.returncode != 0:
            raise DetectError(
                (done.stderr.strip() or f"{run} can't be timed").splitlines()[-1].removeprefix("detect: ")
            )
        return float(json.loads(table.read_text(encoding="utf-8"))[0]["p50_ms"])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders, checkpoint files, or released")
    parser.add_argument("--peer", required=True, metavar="COMMAND", help="command that times the peer")
    parser.add_argument("--runtime", default="onnx", help="runtime of our detector (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of our detector (default: %(default)s)")
    parser.add_argument("--calls", type=int, default=200, help="timed calls of our detector per round")
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds")
    args = parser.parse_args(argv)
    peer_times: list[dict[str, float]] = []
    ours: dict[str, list[float]] = {run: [] for run in args.runs}
    try:
        for _ in range(args.rounds):
            peer_times.append(peer_ms(args.peer))
            for run, times in ours.items():
                times.append(our_ms(run, args.runtime, args.threads, args.calls))
    except DetectError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("| | ms, median of rounds | relative to the peer's network | relative to the peer from array to boxes |")
    print("| --- | --- | --- | --- |")
    for key in _PEER_KEYS:
        print(f"| peer, {key.split('_')[0]} | {median(each[key] for each in peer_times):.2f} | | |")
    for run, times in ours.items():
        shares = []
        for key in _PEER_KEYS:
            ratios = sorted(own / peer[key] for own, peer in zip(times, peer_times))
            shares.append(f"x {median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")
        print(f"| {run}, {args.runtime} | {median(times):.2f} | {' | '.join(shares)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
