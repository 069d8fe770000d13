"""Measure training with several processes on this machine: speed, and numerical difference from a single process.

    python benchmarks/measure_scaling.py
    python benchmarks/measure_scaling.py --only speed --rounds 5

Every process has one thread. Speed is measured for the default detector on sample steel, the process counts in turn.
Closeness is measured on images of half the size. It is compared with a single process whose initial weights are changed
by one part in ten million: smaller differences are rounding errors. Needs a system that can fork.
"""

import argparse
import json
import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from detect.cli import main as detect
from detect.config.loading import parse_config
from detect.config.schema import Config
from detect.engine.steps import Stepper
from detect.engine.trainer import train

_NUDGE = 1e-7
_SCHEDULE = {"device": "cpu", "precision": "float32", "warmup_steps": 4, "val_every": 1000, "batch_size": 16}


def _config(folder: Path, run: str, *, epochs: int, norm: str = "batch", input_size: int | None = None) -> Config:
    return parse_config(
        {
            "run": {"dir": folder / run},
            "data": {"train": folder / "train.json", "workers": 0},
            "model": {"norm": norm, "input_size": input_size},
            "train": {**_SCHEDULE, "epochs": epochs},
        }
    )


def _work(rank: int, size: int, port: int, config: Config, nudge: float, results: Any) -> None:
    os.environ.update({"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)})
    os.environ.update({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)})
    torch.set_num_threads(1)
    step, losses, weights = Stepper.step, [], {}

    def watched(self: Stepper, batch: Any, rate: float) -> dict[str, float]:
        if nudge and not losses:
            generator = torch.Generator().manual_seed(0)
            with torch.no_grad():
                for parameter in self.model.parameters():
                    parameter.mul_(1 + nudge * torch.randn(parameter.shape, generator=generator))
        values = step(self, batch, rate)
        losses.append(sum(values.values()))
        weights[len(losses)] = torch.cat([parameter.detach().flatten() for parameter in self.model.parameters()])
        return values

    Stepper.step = watched  # type: ignore[method-assign]
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):  # noqa: PTH123
        train(config)
    if rank == 0:
        results.put((losses, {number: each.numpy() for number, each in weights.items()}))


def run(config: Config, size: int, *, nudge: float = 0.0) -> tuple[list[float], dict[int, Any]]:
    """Train; returns the loss of each step, and all parameters after each step."""
    context = multiprocessing.get_context("fork")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    queue = context.SimpleQueue()
    world = [context.Process(target=_work, args=(rank, size, port, config, nudge, queue)) for rank in range(size)]
    for process in world:
        process.start()
    result: tuple[list[float], dict[int, Any]] = queue.get()
    for process in world:
        process.join()
    return result


def speed(folder: Path, rounds: int, sizes: Sequence[int]) -> None:
    """Print images per second for each number of processes."""
    rates: dict[int, list[float]] = {size: [] for size in sizes}
    for number in range(rounds):
        for size in sizes:
            config = _config(folder, f"speed{number}_{size}", epochs=3)
            run(config, size)
            lines = [json.loads(line) for line in (config.run.dir / "log.jsonl").read_text().splitlines()]
            rates[size] += [line["images_per_s"] for line in lines[1:]]  # the first epoch is a warm-up
    single = median(rates[sizes[0]])
    print(
        "| processes | images/s (range over epochs) | step of 16 images | speed-up | efficiency |"
        "\n| ---: | --- | ---: | ---: | ---: |"
    )
    for size in sizes:
        rate, low, high = median(rates[size]), min(rates[size]), max(rates[size])
        gain = rate / single
        row = f"{rate:.1f} ({low:.1f} to {high:.1f}) | {16 / rate:.2f} s | {gain:.2f} | {gain / size:.0%}"
        print(f"| {size} | {row} |", flush=True)


def closeness(folder: Path, epochs: int) -> None:
    """Print the difference of two processes, and of one with changed weights, from one process."""
    print("| model.norm | compared with one process | losses, step 1 | last step | weights, step 1 | last step |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for norm in ("group", "sync", "batch"):
        base = run(_config(folder, f"{norm}_1", epochs=epochs, norm=norm, input_size=100), 1)
        for name, size, nudge in (("two processes", 2, 0.0), ("one, weights changed by 1e-7", 1, _NUDGE)):
            config = _config(folder, f"{norm}_{size}_{nudge}", epochs=epochs, norm=norm, input_size=100)
            print(f"| {norm} | {name} | {' | '.join(_differences(base, run(config, size, nudge=nudge)))} |", flush=True)


def _differences(one: tuple[list[float], dict[int, Any]], other: tuple[list[float], dict[int, Any]]) -> list[str]:
    last = len(one[0])
    loss_differences = [abs(other[0][i] / one[0][i] - 1) for i in (0, last - 1)]
    norm = torch.linalg.vector_norm
    first, second = ([torch.from_numpy(weights[i]) for i in (1, last)] for _, weights in (one, other))
    weight_differences = [float(norm(b - a) / norm(a)) for a, b in zip(first, second)]
    return [f"{value:.0e}" for value in (*loss_differences, *weight_differences)]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["speed", "closeness"])
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the speed measurement (default: %(default)s)")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], help="numbers of processes (default: 1 2)")
    parser.add_argument("--epochs", type=int, default=3, help="epochs of 4 steps, for closeness (default: %(default)s)")
    args = parser.parse_args(argv)
    with TemporaryDirectory() as name:
        folder = Path(name)
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):  # noqa: PTH123
            detect(["sample", "--out", f"{folder}/steel", "--images", "72"])
            detect(["convert", f"{folder}/steel", "--out", str(folder), "--split", "train=1-11,val=12"])
        started = time.time()
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before the first step\n", flush=True)
        if args.only != "closeness":
            speed(folder, args.rounds, args.processes)
        if args.only != "speed":
            closeness(folder, args.epochs)
        print(f"\nload {os.getloadavg()[0]:.1f} after the last step, {time.time() - started:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
