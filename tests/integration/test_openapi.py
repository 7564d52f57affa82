"""The listeners do what ``autoingest/data/openapi.yaml`` says, whatever is sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
import schemathesis
import structlog
from hypothesis import HealthCheck, given, settings
from redis.asyncio import Redis
from schemathesis import checks

from autoingest.app.config import Config
from autoingest.app.health import Admin
from autoingest.http import api_documents
from autoingest.model import objects
from autoingest.model.objects import MAX_KEY
from autoingest.queue.connection import connect
from autoingest.roles.enqueue import EnqueueRole
from autoingest.roles.events import EventsRole
from autoingest.roles.presence import PresenceRole
from autoingest.roles.status import StatusRole
from testing.examples import number

CONTENT: dict[str, Any] = api_documents.openapi()
OPERATIONS = {
    operation["operationId"]: (path, method.upper())
    for path, item in CONTENT["paths"].items()
    for method, operation in item.items()
    if method != "servers" and operation["operationId"] not in ("events", "statusFeed")  # which do not end
}
TAKING = ("notify", "presence", "exposures", "exposure", "statusOfExposure")
"""Operations that take something, which may be wrong."""

CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens that all listeners demand of their clients."""
    for name in ("AUTOINGEST_NOTIFICATION_SECRETS", "AUTOINGEST_PRESENCE_TOKEN", "AUTOINGEST_ADMIN_TOKEN"):
        monkeypatch.setenv(name, "swordfish")


@pytest.fixture
async def ports(valkey_url: str, redis_client: Redis) -> AsyncIterator[dict[str, int]]:
    """All listeners of a process, by the names that the document tags them with."""
    listen = {"listen": {"host": "127.0.0.1", "port": 0}}
    config = Config.from_dict(
        {"buckets": ["b"], "redis": {"url": valkey_url}, "enqueue": listen, "admin": listen,
         "events": {**listen, "unauthenticated": True}, "presence": {**listen, "unauthenticated": True},
         "status": {**listen, "unauthenticated": True},
         "ingest": {"repo": "unused"}},
        "test",
    )  # fmt: skip
    client = connect(config.redis)
    started: dict[str, Any] = {
        "enqueue": EnqueueRole(config, client),
        "presence": PresenceRole(config, client),
        "events": EventsRole(config, client),
        "status": StatusRole(config, client),
        "admin": Admin(config, client, []),
    }
    async with AsyncExitStack() as stack:
        stack.push_async_callback(client.aclose)
        for one in started.values():
            stack.push_async_callback(one.close)
            await one.start()
        yield {name: one.port for name, one in started.items()}


@pytest.mark.parametrize(
    ("name", "mode"),
    [(name, schemathesis.GenerationMode.POSITIVE) for name in OPERATIONS]
    + [(name, schemathesis.GenerationMode.NEGATIVE) for name in TAKING],
)
async def test_does_as_it_is_written(ports: dict[str, int], name: str, mode: schemathesis.GenerationMode) -> None:
    path, method = OPERATIONS[name]
    operation = schemathesis.openapi.from_dict(CONTENT)[path][method]
    (tag,) = operation.definition.raw["tags"]
    url = f"http://127.0.0.1:{ports[tag]}"

    @settings(max_examples=number(100) if name in TAKING else 5, deadline=None, database=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(operation.as_strategy(generation_mode=mode))
    def check(case: schemathesis.Case[Any]) -> None:
        if name == "presenceV2" and mode is schemathesis.GenerationMode.POSITIVE:
            case.query["wait"] = 0
        case.call_and_validate(base_url=url, checks=CHECKS, timeout=20)

    with structlog.testing.capture_logs():
        await asyncio.to_thread(check)


@pytest.mark.parametrize("listener", ["enqueue", "presence", "events", "status", "admin"])
@pytest.mark.parametrize("document", [api_documents.openapi, api_documents.asyncapi])
@pytest.mark.usefixtures("tokens")
async def test_every_listener_serves_the_documents_without_a_token(
    ports: dict[str, int], listener: str, document: Callable[[], dict[str, Any]]
) -> None:
    url = f"http://127.0.0.1:{ports[listener]}/{document.__name__}.json"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        assert response.status == 200
        assert await response.json() == document()


def test_document_names_what_the_program_takes() -> None:
    schemas = CONTENT["components"]["schemas"]
    assert set(schemas["Instrument"]["enum"]) == set(objects.CAMERA_CODES)
    assert schemas["Record"]["properties"]["s3"]["properties"]["object"]["properties"]["key"]["maxLength"] == MAX_KEY
