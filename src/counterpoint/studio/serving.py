"""Serve a studio until it is interrupted."""

import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from contextlib import closing

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
    from counterpoint.studio.studio import Studio

    with closing(_listening(settings)) as listener:
        app = studio_app(Studio(settings))

        def announce() -> None:
            say(f"The studio is at {settings.url}")
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
            f"cannot listen at {settings.host}:{settings.port}: {(error.strerror or str(error)).lower()}; choose another --port."
        ) from error
    return listener
