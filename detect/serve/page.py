"""The page for people: files of this library, held in memory, that load nothing from anywhere else."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI, Response

from ..report.template import text_of

_HERE = Path(__file__).parent
_SCRIPTS = ("asking", "drawing", "keeping", "listing", "main")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def add_page(app: FastAPI) -> None:
    """Serve the page at ``/``, its style, which builds on that of reports, and its scripts."""
    style = text_of("page.css") + (_HERE / "page.css").read_text(encoding="utf-8")
    _add(app, "/", (_HERE / "page.html").read_text(encoding="utf-8"), "text/html")
    _add(app, "/page.css", style, "text/css")
    _add(app, "/script/theme.js", text_of("script/theme.js"), "text/javascript")
    for name in _SCRIPTS:
        _add(
            app, f"/script/{name}.js", (_HERE / "script" / f"{name}.js").read_text(encoding="utf-8"), "text/javascript"
        )


def _add(app: FastAPI, path: str, text: str, kind: str) -> None:
    content = text.encode()

    async def page() -> Response:
        return Response(content, media_type=f"{kind}; charset=utf-8", headers=_HEADERS)

    app.add_api_route(path, page, include_in_schema=False)
