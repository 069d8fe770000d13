#!/usr/bin/env python3
"""Load test of `detect serve`: concurrent clients, each sends its next image as soon as it has an answer.

    python benchmarks/load_serve.py                    # the released model, 1,000 requests from 1, 8 and 32 clients
    python benchmarks/load_serve.py runs/mine --clients 16 --requests 5000 --threads 2

The images are sample steel in PNG. Server and clients share the cores of this machine. The last column is the processor
time of the server per image, which is comparable on a busy machine too. The exit code is 1 if a request failed.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from threading import Lock, Thread

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from PIL import Image as Pillow

from detect.synthetic.scenes import CATEGORIES, sample_image

ROOT = Path(__file__).resolve().parent.parent


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="?", default="released", metavar="RUN", help="(default: %(default)s)")
    parser.add_argument("--requests", type=int, default=1000, help="requests per row (default: %(default)s)")
    parser.add_argument(
        "--clients", default="1,8,32", metavar="N,N", help="concurrent clients, one row each (default: %(default)s)"
    )
    parser.add_argument(
        "--threads", default="1", metavar="N", help="CPU threads of the detector (default: %(default)s)"
    )
    args = parser.parse_args(argv)
    bodies = [as_png(sample_image(name, number, seed=1)[0]) for number in (1, 2, 3, 4) for name in CATEGORIES]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "detect", "serve", args.weights, "--port", "0", "--threads", args.threads]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = re.search(r":(\d+)/; Ctrl-C", server.stdout.readline())
        if address is None:
            return 1
        port = int(address[1])
        send_load(server.pid, port, bodies, 20, 2)  # warm-up
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before; detector with {args.threads} threads")
        print("| clients | requests | errors | images/s | p50 | p99 | max | images per batch | processor time |")
        print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
        failed = 0
        for clients in map(int, args.clients.split(",")):
            row, errors = send_load(server.pid, port, bodies, args.requests, clients)
            print(row, flush=True)
            failed += errors
        server.send_signal(signal.SIGTERM)
        return int(server.wait() != 0 or failed > 0)


def send_load(pid: int, port: int, bodies: Sequence[bytes], requests: int, clients: int) -> tuple[str, int]:
    """One row of the table, and the number of failed requests."""
    pending, lock = iter(range(requests)), Lock()
    latencies: list[float] = []
    batches: list[int] = []
    statuses: Counter[int] = Counter()

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        while True:
            with lock:
                number = next(pending, None)
            if number is None:
                break
            start = time.perf_counter()
            try:
                headers = {"Content-Type": "image/png"}
                connection.request("POST", "/v1/detect", bodies[number % len(bodies)], headers)
                answer = connection.getresponse()
                content, status = answer.read(), answer.status
            except OSError:
                content, status = b"", 0
                connection.close()
            seconds = time.perf_counter() - start
            with lock:
                statuses[status] += 1
                latencies.append(seconds)
                if status == 200:
                    batches.append(json.loads(content)["batch"])
        connection.close()

    threads = [Thread(target=client) for _ in range(clients)]
    start, spent = time.perf_counter(), processor_s(pid)
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    rate, spent = requests / (time.perf_counter() - start), processor_s(pid) - spent
    p50, p99, max_ms = (1e3 * float(np.quantile(latencies, share)) for share in (0.5, 0.99, 1))
    errors = requests - statuses[200]
    cells = [clients, f"{requests:,}", errors, f"{rate:.1f}", *(f"{ms:.0f} ms" for ms in (p50, p99, max_ms))]
    cells += [f"{np.mean(batches):.1f}" if batches else "-", f"{1e3 * spent / requests:.0f} ms"]
    statuses_text = "" if not errors else f" statuses {dict(statuses)}"
    return "| " + " | ".join(map(str, cells)) + " |" + statuses_text, errors


def processor_s(pid: int) -> float:
    """Processor time of a process in seconds; NaN if the system doesn't report it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return float("nan")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def as_png(pixels: object) -> bytes:
    """Content of a PNG file."""
    file = io.BytesIO()
    Pillow.fromarray(np.asarray(pixels)).save(file, "PNG")
    return file.getvalue()


if __name__ == "__main__":
    sys.exit(main())
