"""``monitor --serve``: the live view behind a web server that only this machine reaches.

Each browser tab gets a process of its own that runs ``rabbitproof monitor`` and draws into the
page. Refuses to hold: anything the live view shows.

Rules: it listens on 127.0.0.1 only and answers nobody who does not call it so: a page from
elsewhere that the same browser has open can't watch the broker through it. The login reaches the
processes through their environment, never their arguments. The page loads nothing from other hosts.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import socketserver
import sys
import tempfile
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit, urlunsplit

from rabbitproof.cli.connection import MANAGEMENT_VARIABLE, URL_VARIABLE
from rabbitproof.cli.exits import Exit
from rabbitproof.errors import UsageError

if TYPE_CHECKING:
    from rabbitproof.cli.connection import Connection

HOST = "127.0.0.1"
_OPEN_S = 10.0
"""Within which it listens, or the line that says so never comes."""
_ELSEWHERE = re.compile(r"<link[^>]*https?://[^>]*>", re.DOTALL)


def serve(connection: Connection, port: int, arguments: list[str]) -> Exit:
    """Serve ``rabbitproof monitor`` with ``arguments`` until Ctrl+C."""
    from textual_serve.server import Server  # aiohttp is slow to import

    _check_free(port)
    here = f"http://{HOST}:{port}"

    class LocalServer(Server):
        """Says where it is, and answers only those who mean it."""

        async def on_startup(self, app: Any) -> None:  # noqa: ARG002 - aiohttp hands it over
            # It listens only after this; whoever reads the line may come at once.
            self._saying = asyncio.create_task(_when_open(port, f"The monitor is at {here}"))

        def initialize_logging(self) -> None:
            """Log nothing: the command line of the processes would be in it."""

        async def _make_app(self) -> Any:
            app = await super()._make_app()
            app.middlewares.append(_guard(port))
            return app

    os.environ |= environment(connection)
    with tempfile.TemporaryDirectory(prefix="rabbitproof-") as folder:
        page = files("textual_serve").joinpath("templates/app_index.html").read_text("utf-8")
        Path(folder, "app_index.html").write_text(_ELSEWHERE.sub("", page), encoding="utf-8")
        command = [sys.executable, "-m", "rabbitproof", "monitor", *arguments]
        LocalServer(
            _quoted(command),
            host=HOST,
            port=port,
            title="RabbitMQ Monitor",
            templates_path=folder,
        ).serve()
    return Exit.INTERRUPTED


async def _when_open(port: int, text: str) -> None:
    """Print it as soon as somebody can connect."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_OPEN_S):
            while True:
                try:
                    _, writer = await asyncio.open_connection(HOST, port)
                except OSError:
                    await asyncio.sleep(0.01)  # with the deadline above
                else:
                    writer.close()
                    print(f"{text} (Ctrl+C ends it).", flush=True)
                    return


def environment(connection: Connection) -> dict[str, str]:
    """Return the variables that tell a process where the broker is and who asks."""
    api = connection.api
    parts = urlsplit(api.url)
    login = f"{quote(api.address.username, safe='')}:{quote(api.address.password, safe='')}"
    with_login = urlunsplit(parts._replace(netloc=f"{login}@{parts.netloc}"))
    source = str(Path(__file__).parents[2])
    return {
        MANAGEMENT_VARIABLE: with_login,
        URL_VARIABLE: ",".join(address.url() for address in connection.addresses),
        # From a checkout the package is not installed.
        "PYTHONPATH": os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH")))),
    }


def _guard(port: int) -> Any:
    """Return a middleware that refuses whoever calls this server by another name."""
    from aiohttp import web

    names = {f"{HOST}:{port}", f"localhost:{port}"}

    @web.middleware
    async def guard(request: web.Request, handler: Any) -> Any:
        origin = request.headers.get("Origin")
        stranger = origin is not None and urlsplit(origin).netloc not in names
        if request.host not in names or stranger:
            raise web.HTTPForbidden(text="This is a monitor for the browser on its own machine.")
        return await handler(request)

    return guard


def _quoted(command: list[str]) -> str:
    if os.name == "nt":
        return " ".join(f'"{part}"' for part in command)
    return f"exec {shlex.join(command)}"  # no shell in between, that signals would end instead


def _check_free(port: int) -> None:
    try:
        socketserver.TCPServer((HOST, port), socketserver.BaseRequestHandler).server_close()
    except OSError as error:
        raise UsageError(
            f"--serve-port {port} can't be listened on ({error.strerror or error}); "
            "name another one."
        ) from None
