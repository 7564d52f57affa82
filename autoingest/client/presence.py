"""A client for version 2 of presence, which tells what has arrived of a group."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp

LONGEST_WAIT = 15.0
"""Longest time in seconds that one request waits."""

MARGIN = 5.0
"""Seconds that an answer may take beyond the time that the request waits."""

PAUSE = 1.0
"""Seconds until a failed request is repeated, unless the server says otherwise."""


class PresenceError(Exception):
    """The server refused a request, or did not answer it.

    Parameters
    ----------
    code
        Short code of the error, such as ``unauthorized``, ``unknown-detector`` or ``unavailable``.
    message
        Its explanation.
    retry_after
        Seconds after which it makes sense to try again; None if it does not.
    """

    def __init__(self, code: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Image:
    """An image that has arrived."""

    detector: int | None
    """Number of the detector."""
    raft_sensor: str
    """Full name of the detector, ``R22_S11``."""
    snap: int
    """Number of the image in its group, from 0."""
    exposure: int | None
    """Exposure id in the Butler."""
    obs_id: str
    uri: str
    """``s3://{bucket}/{key}``."""
    bucket: str
    key: str
    size: int | None
    """Size of the object in bytes."""
    etag: str | None
    arrived: str | None
    """When its arrival was recorded, ISO 8601, UTC."""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """An answer: what has arrived."""

    images: list[Image]
    """By detector and snap; of several exposures with the same detector and snap the newest first."""
    expected_snaps: int | None
    """Number of images in the group; None until one of them has arrived."""
    cursor: str
    """Pass it as ``after`` to wait for the next arrival."""
    known_since: str | None
    """Since when arrivals have been recorded without a gap, ISO 8601, UTC."""

    @property
    def snaps(self) -> set[int]:
        """Snaps that have arrived."""
        return {image.snap for image in self.images}

    def is_complete(self, detectors: int) -> bool:
        """Return whether all expected snaps of so many detectors have arrived."""
        seen = {(image.raft_sensor, image.snap) for image in self.images}
        return self.expected_snaps is not None and len(seen) >= self.expected_snaps * detectors


class _Requests:
    """What both clients share: addresses, headers, and reading answers."""

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url.rstrip("/")
        self.headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})

    def address(
        self,
        instrument: str,
        group: str,
        detectors: Sequence[int | str],
        snap: int | None,
        wait: float,
        after: str | None,
    ) -> str:
        query: list[tuple[str, str]] = [("group", group), *(("detector", str(name)) for name in detectors)]
        if snap is not None:
            query.append(("snap", str(snap)))
        if wait:
            query.append(("wait", f"{min(wait, LONGEST_WAIT):.3f}"))
        if after is not None:
            query.append(("after", after))
        return f"{self.url}/v2/presence/{quote(instrument, safe='')}?{urlencode(query)}"

    @staticmethod
    def read(status: int, body: bytes) -> Arrivals:
        """Return what an answer says.

        Raises
        ------
        PresenceError
            If it is an error.
        """
        try:
            content: dict[str, Any] = json.loads(body)
            if status != 200:
                error = content["error"]
                raise PresenceError(error["code"], error["message"], error.get("retry_after"))
            return Arrivals(
                [Image(**{name: item.get(name) for name in Image.__slots__}) for item in content["arrivals"]],
                content["expected_snaps"],
                content["cursor"],
                content["known_since"],
            )
        except (AttributeError, KeyError, TypeError, ValueError) as err:
            raise PresenceError(f"status-{status}", f"the answer can't be read: {body[:200]!r}", PAUSE) from err

    @staticmethod
    def unreachable(err: BaseException) -> PresenceError:
        return PresenceError("unreachable", str(err) or type(err).__name__, PAUSE)


class PresenceClient:
    """Asks a presence service; for use without an event loop.

    Parameters
    ----------
    url
        URL of the service, such as ``http://presence.example:8001``.
    token
        Bearer token, if the service requires one.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        self._requests = _Requests(url, token)

    def __enter__(self) -> PresenceClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Do nothing: each request has its own connection."""

    def arrivals(
        self,
        instrument: str,
        group: str,
        detectors: Sequence[int | str] = (),
        *,
        snap: int | None = None,
        wait: float = 0.0,
        after: str | None = None,
    ) -> Arrivals:
        """Return what has arrived of a group.

        Parameters
        ----------
        instrument
            Canonical name, such as ``LSSTCam``.
        group
            Name of the group, ``GROUPID`` of the headers.
        detectors
            Numbers or names of detectors; all by default.
        snap
            Number of the image in the group, from 0; all by default.
        wait
            Seconds, 15 at most, to wait for an arrival after the cursor.
        after
            Cursor of an earlier answer; by default, anything that has arrived counts.

        Raises
        ------
        PresenceError
            If the request is refused, or the service does not answer.
        """
        address = self._requests.address(instrument, group, detectors, snap, wait, after)
        request = urllib.request.Request(address, headers=self._requests.headers)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=wait + MARGIN) as response:  # noqa: S310
                status, body = response.status, response.read()
        except urllib.error.HTTPError as err:
            with err:
                status, body = err.code, err.read()
        except OSError as err:
            raise self._requests.unreachable(err) from err
        return self._requests.read(status, body)

    def wait_for(self, instrument: str, group: str, detector: int | str, *, timeout: float) -> Iterator[Image]:
        """Yield the images of a detector as they arrive, until all expected snaps have, or the time is over.

        A service that does not answer is asked again. How many images are expected is known once one of the group
        has arrived.

        Parameters
        ----------
        instrument, group, detector
            As for `arrivals`.
        timeout
            Seconds.

        Raises
        ------
        PresenceError
            If the request is refused.
        """
        deadline = time.monotonic() + timeout
        after: str | None = None
        seen: set[str] = set()
        while (left := deadline - time.monotonic()) > 0:
            try:
                found = self.arrivals(instrument, group, [detector], wait=min(left, LONGEST_WAIT), after=after)
            except PresenceError as err:
                if err.retry_after is None:
                    raise
                time.sleep(max(0.0, min(err.retry_after, deadline - time.monotonic())))
                continue
            after = found.cursor
            new = [image for image in found.images if image.uri not in seen]
            seen |= {image.uri for image in new}
            yield from new
            if found.is_complete(1):
                return


class AsyncPresenceClient:
    """Asks a presence service; for use in an event loop.

    Parameters
    ----------
    url
        URL of the service, such as ``http://presence.example:8001``.
    token
        Bearer token, if the service requires one.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        self._requests = _Requests(url, token)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> AsyncPresenceClient:
        self._session = aiohttp.ClientSession(
            headers=self._requests.headers,
            connector=aiohttp.TCPConnector(limit=0),  # requests that wait must not keep others waiting
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def arrivals(
        self,
        instrument: str,
        group: str,
        detectors: Sequence[int | str] = (),
        *,
        snap: int | None = None,
        wait: float = 0.0,
        after: str | None = None,
    ) -> Arrivals:
        """Return what has arrived of a group; see `PresenceClient.arrivals`."""
        address = self._requests.address(instrument, group, detectors, snap, wait, after)
        try:
            async with self._open().get(address, timeout=aiohttp.ClientTimeout(total=wait + MARGIN)) as response:
                status, body = response.status, await response.read()
        except (aiohttp.ClientError, TimeoutError) as err:
            raise self._requests.unreachable(err) from err
        return self._requests.read(status, body)

    async def wait_for(
        self,
        instrument: str,
        group: str,
        detector: int | str,
        *,
        timeout: float,  # noqa: ASYNC109
    ) -> AsyncIterator[Image]:
        """Yield the images of a detector as they arrive; see `PresenceClient.wait_for`."""
        after: str | None = None
        seen: set[str] = set()
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            try:
                found = await self.arrivals(instrument, group, [detector], wait=min(left, LONGEST_WAIT), after=after)
            except PresenceError as err:
                if err.retry_after is None:
                    raise
                await asyncio.sleep(max(0.0, min(err.retry_after, deadline - time.monotonic())))
                continue
            after = found.cursor
            for image in found.images:
                if image.uri not in seen:
                    seen.add(image.uri)
                    yield image
            if found.is_complete(1):
                return

    async def stream(
        self, instrument: str, group: str, detectors: Sequence[int | str] = (), *, after: str | None = None
    ) -> AsyncIterator[Image]:
        """Yield images as they arrive, for ever; a broken connection is resumed where it ended.

        Parameters
        ----------
        instrument, group, detectors, after
            As for `PresenceClient.arrivals`.

        Raises
        ------
        PresenceError
            If the request is refused.
        """
        while True:
            address = self._requests.address(instrument, group, detectors, None, 0.0, after)
            with suppress(aiohttp.ClientError, TimeoutError):
                async with self._open().get(
                    address,
                    headers={"Accept": "text/event-stream"},
                    timeout=aiohttp.ClientTimeout(total=None, sock_read=60.0),
                ) as response:
                    if response.status != 200:
                        if response.status < 500:
                            self._requests.read(response.status, await response.read())
                        await asyncio.sleep(PAUSE)
                        continue
                    async for line in response.content:
                        name, _, value = line.decode().rstrip("\n").partition(": ")
                        if name == "id":
                            after = value
                        elif name == "data":
                            content = json.loads(value)
                            yield Image(**{field: content.get(field) for field in Image.__slots__})
            await asyncio.sleep(PAUSE)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("use the client in an async with statement")
        return self._session
