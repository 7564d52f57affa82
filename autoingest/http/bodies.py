"""Reading the bodies of requests, as far as memory allows."""

from __future__ import annotations

import asyncio

from aiohttp import hdrs, web

BODY = 10.0
"""Seconds that a body may take to arrive."""


class Bodies:
    """Reads the bodies of one listener's requests.

    Parameters
    ----------
    most
        Bytes of one body at the most.
    """

    def __init__(self, most: int) -> None:
        self._most = most

    async def read(self, request: web.Request) -> bytes:
        """Read the body of a request.

        Raises
        ------
        HTTPException
            If the body is too long or compressed, or does not arrive in time.
        """
        if request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
            raise web.HTTPUnsupportedMediaType(text="a compressed body is not accepted")
        if (request.content_length or 0) > self._most:
            raise self._too_long()
        content = request.content
        body = content.read_nowait()
        if content.is_eof():
            return body
        parts = [body]
        length = len(body)
        try:
            async with asyncio.timeout(BODY):
                while part := await content.readany():
                    length += len(part)
                    if length > self._most:
                        raise self._too_long()
                    parts.append(part)
        except TimeoutError:
            raise web.HTTPRequestTimeout(text=f"the body did not arrive within {BODY:g} s") from None
        return b"".join(parts)

    def _too_long(self) -> web.HTTPException:
        return web.HTTPRequestEntityTooLarge(self._most, 0, text=f"the body is larger than {self._most} bytes")
