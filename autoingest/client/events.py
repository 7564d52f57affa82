"""A client for events of exposures and files."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp

TIMEOUT = 30.0
"""Time limit in seconds for an answer."""

SILENCE = 60.0
"""Seconds without any data after which a stream is broken: the server sends a comment every 15 s."""

PAUSE = 1.0
"""Seconds until a broken stream is opened again."""


class EventsError(Exception):
    """The server refused a request, or did not answer it.

    Parameters
    ----------
    status
        Status of the answer; 0 if there was none.
    message
        What the server said.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}" if status else message)
        self.status = status


@dataclass(frozen=True, slots=True)
class ReceivedEvent:
    """An event; those that are sent again have the same `id`."""

    position: str
    """Pass it as ``after`` to go on after this event."""
    type: str
    """``exposure.complete`` and so on; ``gap`` if events were lost, and the state of exposures must be asked for."""
    id: str
    subject: str
    """``{instrument}/{obs_id}``."""
    time: str
    """RFC 3339."""
    data: dict[str, Any]


class _Requests:
    """What both clients share: addresses, headers, and reading answers."""

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url.rstrip("/")
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def exposure(self, obs_id: str) -> str:
        return f"{self.url}/exposures/{quote(obs_id, safe='')}"

    def exposures(self, day_obs: str | int, instruments: Sequence[str]) -> str:
        query = [("day_obs", str(day_obs)), *(("instrument", name) for name in instruments)]
        return f"{self.url}/exposures?{urlencode(query)}"

    def events(self, types: Sequence[str], instruments: Sequence[str], after: str | None) -> str:
        query = [*(("type", name) for name in types), *(("instrument", name) for name in instruments)]
        if after is not None:
            query.append(("after", after))
        return f"{self.url}/events?{urlencode(query)}"

    @staticmethod
    def read(status: int, body: bytes) -> dict[str, Any]:
        """Return the content of an answer; raise `EventsError` if it is an error."""
        try:
            content: dict[str, Any] = json.loads(body)
            if status == 200:
                return content
            message = str(content["error"])
        except (KeyError, TypeError, ValueError):
            message = f"the answer can't be read: {body[:200]!r}"
        raise EventsError(status, message)


class _Parser:
    """Collects the lines of a stream into events."""

    def __init__(self) -> None:
        self._fields: dict[str, str] = {}

    def take(self, line: str) -> ReceivedEvent | None:
        """Take a line; return the event that it ends, if any. Heartbeats are left out."""
        if line:
            name, _, value = line.partition(": ")
            self._fields[name] = value
            return None
        fields, self._fields = self._fields, {}
        if "data" not in fields or fields.get("event") == "heartbeat":
            return None
        content = json.loads(fields["data"])
        return ReceivedEvent(
            fields["id"], fields["event"], content["id"], content["subject"], content["time"], content["data"]
        )


class EventsClient:
    """Asks the role events; for use without an event loop.

    Parameters
    ----------
    url
        URL of the service, such as ``http://events.example:8003``.
    token
        Bearer token, if the service requires one.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        self._requests = _Requests(url, token)

    def exposure(self, obs_id: str) -> dict[str, Any] | None:
        """Return the state of an exposure: the data of its events, as they would be now, with ``state``.

        Parameters
        ----------
        obs_id
            Name of the exposure.

        Returns
        -------
        data
            None if nothing is known of it.

        Raises
        ------
        EventsError
            If the request is refused, or the service does not answer.
        """
        try:
            return self._get(self._requests.exposure(obs_id))
        except EventsError as err:
            if err.status == 404:
                return None
            raise

    def exposures(self, day_obs: str | int, instruments: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Return the state of the exposures of an observing day.

        Parameters
        ----------
        day_obs
            Observing day, ``20251231``.
        instruments
            Canonical names; all by default.

        Raises
        ------
        EventsError
            As for `exposure`.
        """
        exposures: list[dict[str, Any]] = self._get(self._requests.exposures(day_obs, instruments))["exposures"]
        return exposures

    def events(
        self, types: Sequence[str] = (), instruments: Sequence[str] = (), *, after: str | None = None
    ) -> Iterator[ReceivedEvent]:
        """Yield events as they happen, for ever; a broken stream is resumed where it ended.

        Parameters
        ----------
        types
            Types such as ``exposure.complete`` or ``file.ingested``; by default all of exposures and visits.
        instruments
            Canonical names; all by default.
        after
            Position of the last event seen; ``0``: everything that the server still has; by default, from now on.

        Raises
        ------
        EventsError
            If the request is refused.
        """
        while True:
            request = urllib.request.Request(  # noqa: S310
                self._requests.events(types, instruments, after), headers=self._requests.headers
            )
            try:
                with urllib.request.urlopen(request, timeout=SILENCE) as response:  # noqa: S310
                    parser = _Parser()
                    for line in response:
                        if (event := parser.take(line.decode().rstrip("\n"))) is not None:
                            after = event.position
                            yield event
            except urllib.error.HTTPError as err:
                with err:
                    if err.code < 500:
                        self._requests.read(err.code, err.read())
            except OSError:
                pass
            time.sleep(PAUSE)

    def _get(self, address: str) -> dict[str, Any]:
        request = urllib.request.Request(address, headers=self._requests.headers)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as response:  # noqa: S310
                status, body = response.status, response.read()
        except urllib.error.HTTPError as err:
            with err:
                status, body = err.code, err.read()
        except OSError as err:
            raise EventsError(0, str(err)) from err
        return self._requests.read(status, body)


class AsyncEventsClient:
    """Asks the role events; for use in an event loop, in an ``async with`` statement.

    Parameters
    ----------
    url, token
        As for `EventsClient`.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        self._requests = _Requests(url, token)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> AsyncEventsClient:
        self._session = aiohttp.ClientSession(
            headers=self._requests.headers, connector=aiohttp.TCPConnector(limit=0), read_bufsize=2**20
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def exposure(self, obs_id: str) -> dict[str, Any] | None:
        """Return the state of an exposure; see `EventsClient.exposure`."""
        try:
            return await self._get(self._requests.exposure(obs_id))
        except EventsError as err:
            if err.status == 404:
                return None
            raise

    async def exposures(self, day_obs: str | int, instruments: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Return the state of the exposures of an observing day; see `EventsClient.exposures`."""
        content = await self._get(self._requests.exposures(day_obs, instruments))
        exposures: list[dict[str, Any]] = content["exposures"]
        return exposures

    async def events(
        self, types: Sequence[str] = (), instruments: Sequence[str] = (), *, after: str | None = None
    ) -> AsyncGenerator[ReceivedEvent, None]:
        """Yield events as they happen, for ever; see `EventsClient.events`."""
        timeout = aiohttp.ClientTimeout(total=None, sock_read=SILENCE)
        while True:
            address = self._requests.events(types, instruments, after)
            try:
                async with self._open().get(address, timeout=timeout) as response:
                    if 400 <= response.status < 500:
                        self._requests.read(response.status, await response.read())
                    parser = _Parser()
                    async for line in response.content if response.status == 200 else _nothing():
                        if (event := parser.take(line.decode().rstrip("\n"))) is not None:
                            after = event.position
                            yield event
            except (aiohttp.ClientError, TimeoutError):
                pass
            await asyncio.sleep(PAUSE)

    async def _get(self, address: str) -> dict[str, Any]:
        try:
            async with self._open().get(address, timeout=aiohttp.ClientTimeout(total=TIMEOUT)) as response:
                status, body = response.status, await response.read()
        except (aiohttp.ClientError, TimeoutError) as err:
            raise EventsError(0, str(err) or type(err).__name__) from err
        return self._requests.read(status, body)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("use the client in an async with statement")
        return self._session


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""
