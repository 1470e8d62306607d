"""Serve a studio until it is interrupted."""

import errno
import ipaddress
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from contextlib import closing, suppress

from counterpoint.errors import InputError, MissingPackageError
from counterpoint.studio.settings import Settings


def serve(settings: Settings, *, opens: bool, say: Callable[[str], None]) -> None:
    """Answer requests until Ctrl-C.

    Args:
        settings: Where, and what is offered.
        opens: Whether to open the first page in the browser.
        say: Told the address, once requests are answered.

    Raises:
        InputError: the address cannot be listened at, or something named on the command line is not there.
        MissingPackageError: the packages of the studio are not installed.
    """
    try:
        import pydantic  # noqa: F401
        import python_multipart  # noqa: F401 (reads forms)
        import uvicorn
    except ImportError as error:
        raise MissingPackageError(
            f'the studio needs {error.name}; install it with: pip install "counterpoint[studio]"'
        ) from error
    from counterpoint.studio.app import studio_app
    from counterpoint.studio.model_names import check_models
    from counterpoint.studio.studio import Studio

    check_models(settings.models)
    with closing(_listening(settings)) as listener:
        app = studio_app(Studio(settings, say=say))

        def announce() -> None:
            say(f"The studio is at {settings.url}")
            if others := other_addresses(settings):
                say(f"From other machines: {'  '.join(others)}")
            say("Ctrl-C ends it.")
            if opens:
                # On a thread: some browsers keep the caller waiting.
                threading.Thread(target=webbrowser.open, args=(settings.url,), daemon=True).start()

        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=3,
            limit_concurrency=200,
        )

        class Server(uvicorn.Server):
            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets=sockets)
                if self.started:
                    announce()

        Server(config).run(sockets=[listener])


def _listening(settings: Settings) -> socket.socket:
    """A socket at the address: found out now, before anything is loaded, and with one clear message."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":  # elsewhere it would let two programs listen at one port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise InputError(
            f"cannot listen at {settings.host}:{settings.port}: {(error.strerror or str(error)).lower()}; {_way_out(error)}"
        ) from error
    return listener


def _way_out(error: OSError) -> str:
    """It is the host that is wrong, or the port."""
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return "--host must be a name or an address of this machine, or 0.0.0.0 for all of its addresses."
    return "choose another --port."


def other_addresses(settings: Settings) -> list[str]:
    """The first page as other machines reach it, where the studio listens at every address of this one."""
    if settings.host not in ("0.0.0.0", "::"):
        return []
    family = socket.AF_INET if settings.host == "0.0.0.0" else socket.AF_INET6
    found: list[str] = []
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        # Nothing is sent: a datagram socket only looks up which of its own addresses would be used. The address is kept for documents.
        probe.connect(("192.0.2.1" if family == socket.AF_INET else "2001:db8::1", 9))
        found.append(probe.getsockname()[0])
    with suppress(OSError):
        found += [str(each[4][0]) for each in socket.getaddrinfo(socket.gethostname(), None, family)]
    kept = [
        each for each in dict.fromkeys(found) if not ipaddress.ip_address(each.partition("%")[0]).is_loopback
    ]
    return [settings.url_at(each) for each in kept]
