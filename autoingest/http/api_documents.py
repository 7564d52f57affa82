"""``/openapi.json`` and ``/asyncapi.json`` describe the interfaces; every listener serves both without a token."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache
from importlib.resources import files
from typing import Any

import yaml
from aiohttp import web

from .answers import answer

SHARED_SCHEMAS = ("Instrument", "Counts", "ExposureData")
"""Schemas of the OpenAPI document that are part of the AsyncAPI document, too."""


def openapi() -> dict[str, Any]:
    """Return the OpenAPI document of this release: requests and their answers."""
    return _read("openapi.yaml")


@cache
def asyncapi() -> dict[str, Any]:
    """Return the AsyncAPI document of this release: events."""
    document = _read("asyncapi.yaml")
    schemas = document["components"]["schemas"]
    for name in SHARED_SCHEMAS:
        schemas[name] = openapi()["components"]["schemas"][name]
    return document


@cache
def _read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((files("autoingest") / "data" / name).read_text())
    return content


def _serving(document: Callable[[], dict[str, Any]]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def serve(_: web.Request) -> web.Response:
        return answer(document())

    return serve


HANDLERS = {"/openapi.json": _serving(openapi), "/asyncapi.json": _serving(asyncapi)}
"""What answers with a document as JSON, by path."""
