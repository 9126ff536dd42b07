"""``monitor --serve`` in a real browser: headless Chromium, told what to do by its protocol."""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from support import drive, eventually, producer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from conftest import Vhost

pytestmark = pytest.mark.slow
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
DEADLINE_S = 60.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


@contextmanager
def served(shell: Any, *arguments: str) -> Iterator[str]:
    """The address of a monitor that is served."""
    port = free_port()
    process = shell.start("src/monitor.py", "--serve", f"--serve-port={port}", *arguments)
    try:
        line = process.stdout.readline()
        assert line == f"The monitor is at http://127.0.0.1:{port} (Ctrl+C ends it).\n"
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, out) == (130, ""), err


@contextmanager
def chromium(folder: Path) -> Iterator[str]:
    """The address of a browser's own protocol."""
    if CHROMIUM is None:
        assert not (os.environ.get("CI") and os.geteuid() == 0), "CI installs Chromium as root"
        pytest.skip("there is no Chromium here; install it: sudo apt-get install chromium")
    command = [
        CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--no-first-run", "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as browser:
        try:
            told = folder / "DevToolsActivePort"
            eventually(lambda: told.exists() and told.read_text().strip(), "Chromium", DEADLINE_S)
            yield f"http://127.0.0.1:{told.read_text().splitlines()[0]}"
        finally:
            browser.terminate()
    for left in Path(tempfile.gettempdir()).glob("org.chromium.*"):
        shutil.rmtree(left)  # it forgets its socket's folder


class Page:
    """One page: what is sent to it over its WebSocket, and what a person does with it."""

    def __init__(self, connection: aiohttp.ClientWebSocketResponse) -> None:
        self._connection = connection
        self._number = 0
        self.drawn = b""
        """All that the terminal in the page was told to draw."""

    async def tell(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Give an order and return its result."""
        self._number += 1
        mine = self._number
        await self._connection.send_json({"id": mine, "method": method, "params": parameters})
        while True:
            answer = await self._next()
            if answer.get("id") == mine:
                assert "error" not in answer, answer
                return dict(answer["result"])

    async def until_drawn(self, text: str) -> None:
        """Wait until the page was told to draw this."""
        try:
            async with asyncio.timeout(DEADLINE_S / 3):
                while text.encode() not in self.drawn:
                    await self._next()
        except TimeoutError:
            pytest.fail(f"never drawn: {text}; the last was {self.drawn[-300:]!r}")

    async def press(self, key: str) -> None:
        """Press a key as a person does."""
        await self.tell("Input.dispatchKeyEvent", type="keyDown", key=key, text=key)
        await self.tell("Input.dispatchKeyEvent", type="keyUp", key=key)

    async def click(self, x: int, y: int) -> None:
        """Click there."""
        for kind in ("mousePressed", "mouseReleased"):
            await self.tell(
                "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1
            )

    async def _next(self) -> dict[str, Any]:
        answer: dict[str, Any] = await self._connection.receive_json(timeout=DEADLINE_S)
        if answer.get("method") == "Network.webSocketFrameReceived":
            frame = answer["params"]["response"]
            binary = frame["opcode"] == 2
            data = frame["payloadData"]
            self.drawn += base64.b64decode(data) if binary else data.encode()
        return answer


async def opened(browser: str, url: str) -> AsyncIterator[Page]:
    """Open an address in a page and yield it."""
    async with aiohttp.ClientSession() as session:
        async with session.put(f"{browser}/json/new?about:blank") as answer:
            where = (await answer.json(content_type=None))["webSocketDebuggerUrl"]
        async with session.ws_connect(where, max_msg_size=0) as connection:
            page = Page(connection)
            await page.tell("Network.enable")
            await page.tell("Page.enable")
            await page.tell("Page.navigate", url=url)
            yield page


def test_the_browser_shows_the_live_view_and_its_keys_work(
    shell: Any, vhost: Vhost, tmp_path: Path
) -> None:
    drive(producer(vhost.url, 7))

    async def look(browser: str, url: str) -> None:
        async for page in opened(browser, url):
            await page.until_drawn("RabbitMQ Monitor Summary")
            await page.until_drawn("work.queue")
            picture = base64.b64decode((await page.tell("Page.captureScreenshot"))["data"])
            assert len(picture) > 10_000  # an empty page is far smaller
            await page.click(20, 20)  # beside the cards; the page has the keys then
            await page.press("?")
            await page.until_drawn("this page")
            loaded = await page.tell(
                "Runtime.evaluate",
                expression="performance.getEntriesByType('resource').map(e => e.name).join(' ')",
            )
            names = loaded["result"]["value"].split()
            assert names
            assert all(name.startswith((url, "data:", "blob:")) for name in names), names

    with chromium(tmp_path / "profile") as browser, served(shell, "--vhost", vhost.name) as url:
        asyncio.run(asyncio.wait_for(look(browser, url), DEADLINE_S))


def test_a_page_from_elsewhere_is_refused(shell: Any, vhost: Vhost) -> None:
    async def ask(url: str) -> list[int]:
        codes = []
        async with aiohttp.ClientSession() as session:
            for headers in ({}, {"Host": "evil.example"}, {"Origin": "http://evil.example"}):
                async with session.get(url, headers=headers) as answer:
                    codes.append(answer.status)
        return codes

    with served(shell, "--vhost", vhost.name) as url:
        assert asyncio.run(ask(url)) == [200, 403, 403]
