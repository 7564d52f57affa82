"""The AsyncAPI document describes the events that there are; `tests.integration.test_events` compares real ones."""

from __future__ import annotations

import re
from typing import Any

import pytest

from autoingest.http.api_documents import asyncapi
from autoingest.model.events import EXPOSURE_TYPES, FILE_TYPES, Event
from testing.event_schemas import invalid

DOCUMENT = asyncapi()
MESSAGES: dict[str, Any] = {message["name"]: message for message in DOCUMENT["components"]["messages"].values()}


def references(content: Any) -> list[str]:
    if isinstance(content, dict):
        own = [content["$ref"]] if isinstance(content.get("$ref"), str) else []
        return own + [found for value in content.values() for found in references(value)]
    return [found for value in content for found in references(value)] if isinstance(content, list) else []


def test_all_types_of_events_are_described() -> None:
    assert set(MESSAGES) == {*EXPOSURE_TYPES, *FILE_TYPES, "gap"}
    for channel in DOCUMENT["channels"].values():
        assert len(channel["messages"]) == len(MESSAGES)


@pytest.mark.parametrize("reference", sorted(set(references(DOCUMENT))))
def test_references_lead_somewhere(reference: str) -> None:
    assert re.match("#/", reference)
    content = DOCUMENT
    for name in reference.removeprefix("#/").split("/"):
        content = content[name]


@pytest.mark.parametrize("name", MESSAGES)
def test_examples_are_valid(name: str) -> None:
    examples = [example["payload"] for example in MESSAGES[name]["examples"]]
    assert examples
    for example in examples:
        assert not invalid(example)
        assert invalid({**example, "id": 1})
        assert invalid({**example, "data": {}})


def test_gap_is_valid() -> None:
    assert not invalid(Event.gap("1-0", 1000.5).cloud_event("/autoingest/test"))
