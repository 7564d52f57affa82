"""Whether events are as the AsyncAPI document says."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from autoingest.http.api_documents import asyncapi
from autoingest.model.events import TYPE_PREFIX


def invalid(event: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a CloudEvent, nothing if it is as described."""
    return [error.message for error in _validator(event["type"].removeprefix(TYPE_PREFIX)).iter_errors(event)]


@cache
def _validator(name: str) -> Draft202012Validator:
    document = asyncapi()
    [message] = [each for each in document["components"]["messages"].values() if each["name"] == name]
    # References are resolved within the schema, so it carries the components.
    return Draft202012Validator({**message["payload"], "components": document["components"]})
