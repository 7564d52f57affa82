"""The answers of the listeners, as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import orjson
from aiohttp import web

_HEADERS = {"Content-Type": "application/json; charset=utf-8", "Server": "autoingest"}

ErrorForm = Callable[[int, str], object]
"""Turns the status and message of an error into the content of the answer."""


def answer(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Answer with `content` as JSON."""
    return web.Response(
        body=orjson.dumps(content), status=status, headers=_HEADERS if headers is None else {**_HEADERS, **headers}
    )


def plain_error(status: int, message: str) -> object:
    """Return the content of an error's answer, unless an interface prescribes another form."""
    return {"error": message}
