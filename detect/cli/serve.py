"""``detect serve``: a detector over HTTP, for programs, and as a page in the browser."""

from __future__ import annotations

import argparse
import ipaddress
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..released import is_released
from .common import UsageError, Verb, add_depth_arguments, display_path, newest_weights, report_released_model
from .evaluate import DEFAULT_THRESHOLD, score_thresholds_for

if TYPE_CHECKING:
    from ..serve.service import ServedModel

TOKEN_VARIABLE = "DETECT_TOKEN"
_BY = "detect serve RUN"
_MIN_TOKEN_LENGTH = 8  # characters


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "weights",
        nargs="?",
        type=Path,
        metavar="RUN",
        help="run folder, checkpoint, released, or a folder that detect export wrote (default: the newest "
        "runs/*/best.pt, else released)",
    )
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, metavar="N", help="0: a free one (default: %(default)s)")
    parser.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help=f"file with a token that requests must send (default: environment variable {TOKEN_VARIABLE}, else none)",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="SCORE",
        help="lowest score to return unless a request gives another (default: the thresholds.json of the run, "
        f"else {DEFAULT_THRESHOLD})",
    )
    parser.add_argument(
        "--max-mb", type=float, default=20.0, metavar="MIB", help="largest request in MiB (default: %(default)g)"
    )
    parser.add_argument(
        "--max-pixels", type=int, default=20_000_000, metavar="N", help="largest image (default: %(default)s)"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=30.0,
        metavar="S",
        help="seconds for an upload, and again for its answer (default: %(default)g)",
    )
    parser.add_argument(
        "--queue",
        type=int,
        default=64,
        metavar="N",
        help="largest number of concurrent requests (default: %(default)s)",
    )
    parser.add_argument(
        "--batch", type=int, default=8, metavar="N", help="largest number of images per batch (default: %(default)s)"
    )
    add_depth_arguments(parser)
    parser.add_argument("--threads", type=int, metavar="N", help="of the detector (default: one per core)")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda or cuda:1 (default: a GPU if there is one)")


def _run(args: argparse.Namespace) -> int:
    if args.threshold is not None and not 0 <= args.threshold <= 1:
        raise UsageError(f"--threshold is {args.threshold}", fix="give a score from 0 to 1")
    if not 0 <= args.port < 2**16:
        raise UsageError(f"--port is {args.port}", fix="give 0 to 65535")
    if args.threads is not None and not 1 <= args.threads <= 1024:
        raise UsageError(f"--threads is {args.threads}", fix="give 1 or more")
    token = _token(args.token_file)
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as error:
        found = f"serving needs the package {error.name}, which isn't installed"
        raise UsageError(found, fix="install it with: pip install 'surface-detect[serve]'") from None
    from ..serve.app import create_app
    from ..serve.requests import Limits
    from ..serve.server import address_of, listen, make_server

    limits = Limits(args.max_mb, args.max_pixels, args.timeout, args.queue, args.batch)
    with listen(args.host, args.port) as listening:
        address = address_of(listening)
        if token is None and not _is_loopback(listening.getsockname()[0]):
            line = f"anyone who can reach {address} can use it; set a token with {TOKEN_VARIABLE} or --token-file"
            print(f"detect: check this: {line}", file=sys.stderr)
        model = _load(args)

        def prepare() -> None:
            if args.threads is not None:
                import torch

                torch.set_num_threads(args.threads)

        def announce() -> None:
            print(f"detect: serving {model.name} at {address}; Ctrl-C stops", flush=True)

        app = create_app(model, limits, token=token, prepare=prepare)
        make_server(app, timeout_s=limits.timeout_s, say=announce).run(sockets=[listening])
    return 0


def _load(args: argparse.Namespace) -> ServedModel:
    from ..serve.service import is_export, model_from_export, model_from_predictor

    weights = args.weights or newest_weights(by=_BY)
    name = str(weights) if is_released(weights) else weights.resolve().name
    if is_export(weights):
        if args.device is not None:
            raise UsageError("--device has no meaning for an exported model", fix="leave it out")
        if args.max_value is not None:
            fix = "leave it out; an exported model uses the white level of its contract.json"
            raise UsageError("--max-value has no meaning for an exported model", fix=fix)
        return model_from_export(weights, name, args.threshold, default=DEFAULT_THRESHOLD, threads=args.threads or 0)
    from ..inference.predictor import Predictor

    predictor = Predictor.load(weights, device=args.device, max_value=args.max_value)
    if is_released(weights):
        report_released_model(predictor.categories, by=_BY)
    thresholds = score_thresholds_for(predictor.weights_path, args.threshold)
    each = (
        dict.fromkeys(predictor.categories, thresholds) if isinstance(thresholds, float) else dict(thresholds.per_class)
    )
    return model_from_predictor(predictor, name, each)


def _token(file: Path | None) -> str | None:
    """The token from a file or the environment, not from the command line, which all users of the machine can read."""
    where = display_path(file) if file is not None else TOKEN_VARIABLE
    if file is None:
        text = os.environ.get(TOKEN_VARIABLE)
        if text is None:
            return None
    else:
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = (getattr(error, "strerror", None) or "no text").lower()
            fix = "give a file that holds only the token"
            raise UsageError(f"the token can't be read ({reason})", where=where, fix=fix) from None
    token = text.strip()
    if len(token) < _MIN_TOKEN_LENGTH or not token.isascii() or not token.isprintable() or " " in token:
        found = f"the token must be {_MIN_TOKEN_LENGTH} or more ASCII characters without spaces"
        raise UsageError(found, where=where, fix="make one with: openssl rand -hex 24")
    return token


def _is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host.partition("%")[0]).is_loopback


SERVE = Verb(
    summary="Serve a detector over HTTP: images in, JSON out, and a page to try it in a browser.",
    details=(
        "POST an image or array to /v1/detect; /openapi.json describes all routes, /health and /metrics are for\n"
        "monitoring, and / is a page. It listens on this machine only, unless --host is given. If detect evaluate\n"
        "--costs wrote a thresholds.json next to the weights, its thresholds are used. On Ctrl-C or SIGTERM running\n"
        "requests are finished first. Needs: pip install 'surface-detect[serve]' (docs/line.md)"
    ),
    examples=[
        "serve",
        "serve runs/neu --port 8080 --threads 2",
        "serve line/model --host 0.0.0.0 --token-file token.txt",
    ],
    add_arguments=_add_arguments,
    run=_run,
)
