"""``/openapi.json``: the description of the HTTP interfaces, which every listener serves without a token."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import yaml
from aiohttp import web

from .answers import answer

PATH = "/openapi.json"


@cache
def document() -> dict[str, object]:
    """Read the OpenAPI document of this release."""
    text = (files("autoingest") / "data/openapi.yaml").read_text()
    content: dict[str, object] = yaml.safe_load(text)
    return content


async def serve_document(_: web.Request) -> web.Response:
    """Answer with the OpenAPI document as JSON."""
    return answer(document())
