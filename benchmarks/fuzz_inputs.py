"""Damage files of every kind, read them, and count the outcomes: read correctly, rejected with a message, or a bug.

python benchmarks/fuzz_inputs.py                    # 10,000 files, some minutes on one core
python benchmarks/fuzz_inputs.py --files 1200 --seed 7
"""

from __future__ import annotations

import argparse
import json
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from detect.errors import DetectError
from fuzz_readers import KINDS, Misread, mutate

HANGS_S = 20  # seconds of processor time; intact files take milliseconds
CORRECT, REJECTED, MISREAD, TRACEBACK, HANG = "read correctly", "rejected", "misread", "traceback", "hang"


def outcome(name: str, seeds: list[bytes], seed: int, number: int) -> tuple[str, str]:
    """Outcome of reading one damaged file, and the error message or the traceback."""
    kind = KINDS[name]
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        data.mkdir()
        (data / kind.name).write_bytes(mutate(kind, seeds, seed, number))
        try:
            kind.read(data)
        except DetectError as error:
            message = str(error)
            is_valid = message.isprintable() and len(message) < 4000
            return (REJECTED, message) if is_valid else (MISREAD, f"unsuitable message: {message!r}")
        except Misread as error:
            return MISREAD, str(error)
        except Exception:
            return TRACEBACK, traceback.format_exc()
    return CORRECT, ""


def _worker(name: str, seed: int, first: int, last: int) -> None:
    """Print one JSON line per file from ``first`` to ``last`` of a kind; a file that hangs ends the process."""
    warnings.simplefilter("ignore")
    seeds = KINDS[name].seeds()
    for number in range(first, last):
        signal.setitimer(signal.ITIMER_PROF, HANGS_S)  # its signal ends the process in any code
        result, message = outcome(name, seeds, seed, number)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps([result, message, peak]), flush=True)


def run(name: str, files: int, seed: int) -> dict[str, Any]:
    """Read all files of a kind in worker processes, and count the outcomes."""
    counts: Counter[str] = Counter()
    peak, examples, done = 0.0, [], 0
    while done < files:
        command = [sys.executable, __file__, "--worker", name, "--seed", str(seed), "--range", str(done), str(files)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as worker:
            assert worker.stdout is not None
            for line in worker.stdout:
                result, message, used = json.loads(line)
                counts[result] += 1
                if result in (MISREAD, TRACEBACK):
                    examples.append(f"{name} {done}: {message}")
                peak, done = max(peak, used), done + 1
        if done < files:  # killed by the timer, or crashed
            counts[HANG if worker.returncode == -signal.SIGPROF else TRACEBACK] += 1
            examples.append(f"{name} {done}: ended by signal {-worker.returncode}")
            done += 1
    return {"kind": name, "files": files, **{key: counts[key] for key in OUTCOMES}, "peak MiB": peak, "worst": examples}


OUTCOMES = (CORRECT, REJECTED, MISREAD, TRACEBACK, HANG)


def main() -> int:
    """Print one row per kind; the exit code is 1 if a file was misread, or caused a traceback, a crash or a hang."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000, help="files over all kinds (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="random seed of the damage (default: %(default)s)")
    parser.add_argument("--only", choices=list(KINDS), help="damage one kind only")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--range", nargs=2, type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        _worker(args.worker, args.seed, *args.range)
        return 0
    names = [args.only] if args.only else list(KINDS)
    started, rows = time.monotonic(), []
    print("| kind | files | " + " | ".join(OUTCOMES) + " | peak MiB |")
    print("| --- |" + " ---: |" * (len(OUTCOMES) + 2))
    for i, name in enumerate(names):
        row = run(name, args.files // len(names) + (i < args.files % len(names)), args.seed)
        rows.append(row)
        print(f"| {name} | {row['files']:,} | " + " | ".join(f"{row[key]:,}" for key in OUTCOMES), end="")
        print(f" | {row['peak MiB']:.0f} |", flush=True)
    total = {key: sum(row[key] for row in rows) for key in ("files", *OUTCOMES)}
    print("| all | " + " | ".join(f"{value:,}" for value in total.values()), end="")
    print(f" | {max(row['peak MiB'] for row in rows):.0f} |")
    print(f"\nseed {args.seed}, {(time.monotonic() - started) / 60:.1f} minutes", file=sys.stderr)
    for row in rows:
        for example in row["worst"][:20]:
            print(f"\n{example}", file=sys.stderr)
    return int(any(row["worst"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
