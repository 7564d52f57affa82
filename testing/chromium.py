"""A real browser, driven by its own protocol for developers."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from .requirements import missing
from .waiting import until


@dataclass
class Page:
    """A page of the browser."""

    socket: aiohttp.ClientWebSocketResponse
    complaints: list[str] = field(default_factory=list)
    """What the page has written to its console, and its errors."""
    numbers: Any = field(default_factory=itertools.count)

    async def send(self, method: str, **parameters: object) -> dict[str, Any]:
        """Send a command, and return its result."""
        number = next(self.numbers)
        await self.socket.send_json({"id": number, "method": method, "params": parameters})
        async with asyncio.timeout(120):
            while True:
                reply = json.loads(await self.socket.receive_str())
                if reply.get("id") == number:
                    assert "error" not in reply, reply
                    result: dict[str, Any] = reply["result"]
                    return result
                if reply.get("method") in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
                    self.complaints.append(json.dumps(reply["params"]))

    async def open(self, url: str, width: int, height: int) -> None:
        """Show a page in a window of this size."""
        for domain in ("Runtime", "Log", "Page"):
            await self.send(f"{domain}.enable")
        await self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        await self.send("Page.navigate", url=url)

    async def value(self, expression: str) -> Any:
        """Return the value of an expression."""
        found = await self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def shows(self, expression: str) -> None:
        """Wait until an expression is true."""

        async def is_true() -> bool:
            return bool(await self.value(expression))

        await until(is_true)

    async def press(self, key: str) -> None:
        """Press a key."""
        for kind in ("keyDown", "keyUp"):
            await self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    async def shot(self, file: Path) -> None:
        """Save what the window shows."""
        file.write_bytes(base64.b64decode((await self.send("Page.captureScreenshot", format="png"))["data"]))


@asynccontextmanager
async def browser(folder: Path) -> AsyncIterator[Page]:
    """Run Chromium with its profile in a folder."""
    program = shutil.which("chromium")
    if program is None:
        missing("chromium", "install Debian's package chromium")
    process = await asyncio.create_subprocess_exec(
        program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        port_file = folder / "DevToolsActivePort"
        await until(lambda: port_file.exists() and "\n" in port_file.read_text(), 120)
        port = port_file.read_text().split()[0]
        async with aiohttp.ClientSession() as session:
            async with session.put(f"http://127.0.0.1:{port}/json/new?about:blank") as response:
                address = (await response.json())["webSocketDebuggerUrl"]
            async with session.ws_connect(address, max_msg_size=0) as socket:
                yield Page(socket)
    finally:
        process.terminate()
        await process.wait()
