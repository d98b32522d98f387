"""The console's files and the headers they go out with. No build step, no other host.

Everything lies in `page/` beside this module and is read once. What is shown to somebody who has
not signed in is one self-contained file each (`plain`): its style stands inside and is allowed by
its hash, so that no other door needs to be open.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import Final

from aiohttp import hdrs, web

PAGE_PATH: Final = "/console/page/"
_ROOT = files("drizzle_streams.coordinator") / "page"
_TYPES: Final = {"css": "text/css", "js": "text/javascript", "txt": "text/plain"}

SAFE_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_NOTHING: Final = "default-src 'none'; base-uri 'none'; frame-ancestors 'none'"
CONTENT_POLICY: Final = (
    f"{_NOTHING}; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " form-action 'self'"
)


@dataclass(frozen=True, slots=True)
class PageFile:
    """A file of the page; `tag` changes with its content."""

    body: bytes
    content_type: str
    tag: str


def page_files() -> dict[str, PageFile]:
    """Scripts, styles and licences by their path below `page/`."""
    found: dict[str, PageFile] = {}
    for folder, prefix in ((_ROOT, ""), (_ROOT / "vendor", "vendor/")):
        for file in folder.iterdir():
            kind = _TYPES.get(file.name.rpartition(".")[2])
            if kind is not None:
                body = file.read_bytes()
                found[prefix + file.name] = PageFile(body, kind, hashlib.sha256(body).hexdigest()[:32])
    return found


def console_page() -> web.Response:
    """The page itself."""
    return _html((_ROOT / "index.html").read_text("utf-8"), 200, CONTENT_POLICY)


def sign_in_page(message: str) -> web.Response:
    """401, and in its body a form to sign in with."""
    return _plain("sign-in.html", {"message": escape(message)}, 401, {hdrs.WWW_AUTHENTICATE: "Bearer"})


def standby_page(leader: str | None, refresh_s: int) -> web.Response:
    """This coordinator stands by; asks again by itself."""
    where = f'<a href="{escape(leader)}/">{escape(leader)}</a>' if leader else "not known yet"
    return _plain("standby.html", {"leader": where}, 200, {"Refresh": str(refresh_s)})


def file_response(request: web.Request, file: PageFile) -> web.Response:
    """The file, or 304 for who has it."""
    headers = SAFE_HEADERS | {hdrs.CACHE_CONTROL: "no-cache", hdrs.ETAG: f'"{file.tag}"'}
    if request.headers.get(hdrs.IF_NONE_MATCH) == headers[hdrs.ETAG]:
        return web.Response(status=304, headers=headers)
    return web.Response(body=file.body, content_type=file.content_type, charset="utf-8", headers=headers)


def _plain(name: str, values: dict[str, str], status: int, headers: dict[str, str]) -> web.Response:
    style = (_ROOT / "plain.css").read_text("utf-8")
    text = (_ROOT / name).read_text("utf-8").replace("{{style}}", style)
    for key, value in values.items():
        text = text.replace(f"{{{{{key}}}}}", value)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"{_NOTHING}; style-src 'sha256-{digest}'; img-src data:; form-action 'self'"
    return _html(text, status, policy, headers)


def _html(text: str, status: int, policy: str, headers: dict[str, str] | None = None) -> web.Response:
    safe = SAFE_HEADERS | {"Content-Security-Policy": policy, hdrs.CACHE_CONTROL: "no-store"}
    return web.Response(
        text=text, status=status, content_type="text/html", charset="utf-8", headers=safe | (headers or {})
    )
