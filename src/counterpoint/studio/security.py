"""Who may ask what: hosts, origins, the token, the size of requests, and the headers that keep pages to themselves.

Written as plain ASGI, around everything else: what is refused here is seen by no route.
"""

import hmac
import ipaddress
import json
import socket
from collections.abc import Callable, Iterable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from counterpoint.studio.pages.alone import page_alone
from counterpoint.studio.refusals import is_for_people
from counterpoint.studio.settings import Settings

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)
"""Scripts and styles from the studio itself only, none inline; nothing from anywhere else."""

HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
"""Of every answer, unless it has its own."""

_SAFE = ("GET", "HEAD")
_METHODS = (*_SAFE, "POST")
_UPLOAD_PATH = "/api/photos"
# What a multipart body has around the photograph.
_FORM_BYTES = 65_536
_LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")


class _TooLarge(Exception):
    """More came than was announced, or allowed."""


class Security:
    """Every refusal that needs no route.

    Args:
        app: What is protected.
        settings: Host, port, token and limits.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app, self._settings = app, settings
        self.cookie = f"counterpoint-studio-{settings.port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or hand on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no web sockets here
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = [
            (name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]
        ]
        send = _with_headers(send)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await self._refuse(scope, headers, send, *refusal)
            return
        if self._settings.token is not None and not self._has_cookie(headers):
            await self._welcome(scope, headers, send)
            return
        most = self._most(scope["path"])
        announced = _one(headers, "content-length")
        if announced is not None and (not announced.isdigit() or int(announced) > most):
            await _refuse(send, 413, f"the request is too large: at most {most:,} bytes are taken here.")
            return
        await self._limited(scope, receive, send, most)

    def _refusal(self, scope: Scope, headers: list[tuple[str, str]]) -> tuple[int, str] | None:
        host = _one(headers, "host")
        if host is None or not self._knows(host):
            return (
                403,
                "this host name is not the studio's: open it by the address that it printed when it was started.",
            )
        if scope["method"] not in _METHODS:
            return 405, "the studio answers GET, HEAD and POST only."
        if scope["method"] not in _SAFE and not self._same_origin(headers, host):
            return (
                403,
                "this request comes from another site, or does not say where it comes from; programs add the header "
                f"'Origin: http://{host}'.",
            )
        return None

    def _knows(self, host: str) -> bool:
        """Whether a Host header is the studio's own: a name that somebody else points at this machine is not."""
        name, port = _split_host(host.lower())
        if port != str(self._settings.port) and not (port == "" and self._settings.port == 80):
            return False
        given = self._settings.host.lower()
        if name in _LOCAL_NAMES or name.strip("[]") == given:
            return True
        if given not in ("0.0.0.0", "::"):
            return False
        # Open on every interface: its numbers, and the name of this machine; names of others could be anybody's.
        return _is_address(name.strip("[]")) or name == socket.gethostname().lower()

    def _same_origin(self, headers: list[tuple[str, str]], host: str) -> bool:
        origins = [value for name, value in headers if name == "origin"]
        site = _one(headers, "sec-fetch-site")
        if site is not None and site != "same-origin":
            return False
        if origins:
            return [origin.lower() for origin in origins] == [f"http://{host.lower()}"]
        return site == "same-origin"

    def _has_cookie(self, headers: list[tuple[str, str]]) -> bool:
        for name, value in headers:
            if name == "cookie":
                try:
                    found = SimpleCookie(value).get(self.cookie)
                except CookieError:
                    continue
                if found is not None and self._is_token(found.value):
                    return True
        return False

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode(), (self._settings.token or "").encode())

    async def _welcome(self, scope: Scope, headers: list[tuple[str, str]], send: Send) -> None:
        """The token in the address becomes a cookie, and leaves the address."""
        asked = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = next((value for name, value in asked if name == "token"), "")
        if scope["method"] not in _SAFE or not self._is_token(given):
            words = "this studio needs the token in the address that it printed when it was started."
            await self._refuse(scope, headers, send, 403, words)
            return
        rest = urlencode([(name, value) for name, value in asked if name != "token"])
        # One slash only: two would begin the address of another host.
        place = "/" + scope["path"].lstrip("/\\") + (f"?{rest}" if rest else "")
        cookie = f"{self.cookie}={self._settings.token}; HttpOnly; SameSite=Strict; Path=/"
        found = [(b"location", place.encode("latin-1", "replace")), (b"set-cookie", cookie.encode())]
        await send(
            {"type": "http.response.start", "status": 303, "headers": [*found, (b"content-length", b"0")]}
        )
        await send({"type": "http.response.body", "body": b""})

    async def _refuse(
        self, scope: Scope, headers: list[tuple[str, str]], send: Send, status: int, words: str
    ) -> None:
        """In JSON, or, to somebody in a browser, with a page."""
        accepted = _one(headers, "accept") or ""
        if scope["method"] not in _SAFE or not is_for_people(scope["path"], accepted):
            await _refuse(send, status, words)
            return
        address = f"http://127.0.0.1:{self._settings.port}/" if self._settings.is_loopback else ""
        page, policy = page_alone(status, words, address=address)
        await _send(send, status, page.encode(), "text/html; charset=utf-8", policy)

    def _most(self, path: str) -> int:
        limits = self._settings.limits
        return limits.upload_bytes + _FORM_BYTES if path == _UPLOAD_PATH else limits.body_bytes

    async def _limited(self, scope: Scope, receive: Receive, send: Send, most: int) -> None:
        """Hand on, and end it where more is sent than is taken."""
        came, begun = 0, False

        async def counted() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            if came > most:
                raise _TooLarge
            return message

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, counted, noted)
        except _TooLarge:
            if not begun:
                await _refuse(send, 413, f"the request is too large: at most {most:,} bytes are taken here.")


def _with_headers(send: Send) -> Send:
    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = {name.decode("latin-1").lower() for name, _ in message.get("headers", [])}
            added = [(n.encode(), v.encode()) for n, v in HEADERS.items() if n not in own]
            message = {**message, "headers": [*message.get("headers", []), *added]}
        await send(message)

    return with_headers


async def _refuse(send: Callable[[Message], object], status: int, words: str) -> None:
    await _send(send, status, json.dumps({"error": words}).encode(), "application/json", POLICY)


async def _send(send: Callable[[Message], object], status: int, body: bytes, kind: str, policy: str) -> None:
    headers = [
        (b"content-type", kind.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"content-security-policy", policy.encode()),
        # What is left of the request is not read.
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _one(headers: Iterable[tuple[str, str]], name: str) -> str | None:
    """The value of a header that comes once; None where it does not come, or several times."""
    found = [value for each, value in headers if each == name]
    return found[0] if len(found) == 1 else None


def _split_host(host: str) -> tuple[str, str]:
    """Name (IPv6 in brackets) and port."""
    if host.startswith("["):
        name, bracket, rest = host.partition("]")
        return name + bracket, rest.removeprefix(":")
    name, _, port = host.partition(":")
    return name, port


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
