"""Events as the AsyncAPI document describes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from autoingest.http.api_documents import asyncapi
from autoingest.model.events import TYPE_PREFIX, Event


def invalid(event: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a CloudEvent, nothing if it is as described."""
    return [error.message for error in _validator(event["type"].removeprefix(TYPE_PREFIX)).iter_errors(event)]


def example(name: str) -> dict[str, str]:
    """Return the example of an event as it stands in a stream of Redis."""
    [message] = [each for each in asyncapi()["components"]["messages"].values() if each["name"] == name]
    event = Event.of_cloud_event(message["examples"][0]["payload"])
    data = event.data | {"times": dict.fromkeys(event.data["times"], event.time)}
    return {
        "id": event.id, "type": event.type, "subject": event.subject, "time": str(event.time),
        "data": json.dumps(data),
    }  # fmt: skip


@cache
def _validator(name: str) -> Draft202012Validator:
    document = asyncapi()
    [message] = [each for each in document["components"]["messages"].values() if each["name"] == name]
    # References are resolved within the schema, so it carries the components.
    return Draft202012Validator({**message["payload"], "components": document["components"]})
