from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autoingest.app import metrics
from autoingest.app.config import Config
from autoingest.app.secrets import NOTIFICATION_SECRETS
from autoingest.dev import embedded
from autoingest.errors import ConfigurationError
from autoingest.model.notices import CANARY_FOLDER
from autoingest.notify.records import MAX_RECORDS
from autoingest.queue import keys
from autoingest.queue.connection import connect
from autoingest.roles.enqueue import EnqueueRole
from testing.examples import number
from testing.messages import EXPOSURE, body, key, record, trigger
from testing.waiting import until

BUCKET = "embargo@rubin-summit"
QUEUE = keys.queue(BUCKET)


class Running:
    """A started role, its Redis client and an HTTP client."""

    def __init__(self, role: EnqueueRole, redis: Any, http: aiohttp.ClientSession) -> None:
        self.role = role
        self.redis = redis
        self._http = http
        self._url = f"http://127.0.0.1:{role.port}/notify"

    async def post(self, content: bytes) -> tuple[int, Any]:
        async with self._http.post(self._url, data=io.BytesIO(content)) as response:
            self.headers = response.headers
            return response.status, await response.json()

    async def queued(self) -> list[str]:
        """Keys on the queue, oldest first."""
        return [path.removeprefix(BUCKET + "/") for path in (await self.redis.lrange(QUEUE, 0, -1))[::-1]]


@asynccontextmanager
async def running(redis_url: str, **enqueue: Any) -> AsyncIterator[Running]:
    config = Config.from_dict(
        {
            "buckets": [BUCKET, "other"],
            "redis": {"url": redis_url, "socketTimeout": 1},
            "enqueue": {"listen": {"host": "127.0.0.1", "port": 0}, **enqueue},
            "ingest": {"repo": "unused"},
        },
        "test",
    )
    client = connect(config.redis)
    role = EnqueueRole(config, client)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(client.aclose)
        stack.push_async_callback(role.close)
        await role.start()
        http = await stack.enter_async_context(aiohttp.ClientSession())
        yield Running(role, client, http)


@pytest.fixture
async def enqueue(valkey_url: str, redis_client: Any) -> AsyncIterator[Running]:
    async with running(valkey_url) as result:
        yield result


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NOTIFICATION_SECRETS, "first-secret second-secret")


async def test_answer_tells_what_became_of_each_record(enqueue: Running) -> None:
    good = record(key("R01_S00"), event_id="1", etag="e")
    content = body(
        good,
        record("nonsense.fits"),
        {**good, "eventId": "2"},
        record(f"{EXPOSURE}/x.json"),
        record(bucket="unknown"),
        trigger(key("R01_S01")),
    )
    assert await enqueue.post(content) == (
        200,
        {
            "queued": [f"{BUCKET}/{key('R01_S00')}", f"{BUCKET}/{key('R01_S01')}"],
            "duplicate": [f"{BUCKET}/{key('R01_S00')}"],
            "ignored": [f"{BUCKET}/{EXPOSURE}/x.json"],
            "rejected": [
                {"key": "nonsense.fits", "reason": "key has 1 components, not the 4 of instrument/day_obs/obs_id/file"},
                {"key": f"unknown/{key()}", "reason": "bucket is not configured"},
            ],
            "unauthentic": 0,
        },
    )
    assert await enqueue.queued() == [key("R01_S00"), key("R01_S01")]
    assert await enqueue.redis.hkeys(keys.rejected(BUCKET)) == ["nonsense.fits"]
    assert await enqueue.redis.hkeys(keys.rejected("-")) == [f"unknown/{key()}"]


async def test_metrics(enqueue: Running) -> None:
    def values() -> dict[str, float]:
        names = ("received", "ignored", "rejected", "duplicate", "queued")
        return {
            name: metrics.REGISTRY.get_sample_value(f"autoingest_{name}_total", {"bucket": BUCKET}) or 0
            for name in names
        }

    before = values()
    await enqueue.post(
        body(record(), record(), record("x"), record("x.fits"), record(eventName="ObjectRemoved:Delete"))
    )
    assert {name: value - before[name] for name, value in values().items()} == {
        "received": 5,
        "ignored": 2,
        "rejected": 1,
        "duplicate": 1,
        "queued": 1,
    }


async def test_every_real_body_is_answered_200(valkey_url: str, redis_client: Any, shared_data: Path) -> None:
    async with running(valkey_url) as enqueue:
        for file in sorted((shared_data / "notifications").rglob("*.json")):
            sent = orjson.loads(file.read_bytes())
            status, answer = await enqueue.post(file.read_bytes())
            assert (status, answer["queued"]) == (200, []), file.name
            # The same as an exposure's file in our bucket.
            sent["Records"][0]["s3"]["bucket"]["name"] = "rubin-summit"
            sent["Records"][0]["s3"]["object"]["key"] = key(file.stem)
            status, answer = await enqueue.post(orjson.dumps(sent))
            removed = sent["Records"][0]["eventName"].startswith("ObjectRemoved")
            assert (status, len(answer["queued"])) == (200, 0 if removed else 1), file.name


@pytest.mark.usefixtures("secrets")
async def test_only_authentic_records_count(valkey_url: str, redis_client: Any) -> None:
    async with running(valkey_url, hold=0.2) as enqueue:
        with structlog.testing.capture_logs() as logs:
            for content in (body(record(secret="wrong-secret")), body(record(), record("x.fits")), body(5)):
                assert await enqueue.post(content) == (401, {"error": "no record is authentic"})
            assert await enqueue.redis.keys("*") == []
            status, answer = await enqueue.post(
                body(
                    record(key("R01_S00"), secret="wrong-secret"),
                    record(key("R01_S01"), secret="second-secret"),
                    record(key("R01_S02"), secret="first-secret"),
                )
            )
        assert (status, answer["unauthentic"], len(answer["queued"])) == (200, 1, 2)
        assert await enqueue.queued() == [key("R01_S01"), key("R01_S02")]
    assert [entry["number"] for entry in logs if entry["event"] == "records without a valid secret dropped"] == [1]
    assert not any(f"{word}-secret" in repr(logs) for word in ("wrong", "first", "second"))


async def test_without_secrets_it_warns(valkey_url: str) -> None:
    with structlog.testing.capture_logs() as logs:
        async with running(valkey_url):
            pass
    assert any("not authenticated" in entry["event"] and entry["log_level"] == "warning" for entry in logs)


async def test_no_records(enqueue: Running) -> None:
    status, answer = await enqueue.post(body())
    assert (status, any(answer.values())) == (200, False)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"Event": "s3:TestEvent"}'])
async def test_malformed_body(enqueue: Running, content: bytes) -> None:
    status, answer = await enqueue.post(content)
    assert status == 400
    assert answer["error"]


async def test_compressed_bodies_are_refused(enqueue: Running, caplog: pytest.LogCaptureFixture) -> None:
    async with aiohttp.ClientSession() as http:
        for encoding in ("gzip", "deflate", "br", "zstd", "gzip, gzip", "GZIP", "nonsense"):
            request = http.post(
                f"http://127.0.0.1:{enqueue.role.port}/notify",
                data=io.BytesIO(body(record())),
                headers={"Content-Encoding": encoding},
            )
            async with request as response:
                assert response.status == 415
                assert "error" in await response.json()
    assert await enqueue.queued() == []
    assert (await enqueue.post(body(record())))[0] == 200
    assert caplog.records == []


async def test_body_that_is_cut_off(enqueue: Running, caplog: pytest.LogCaptureFixture) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", enqueue.role.port)
    writer.write(b"POST /notify HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n" + body(record()))
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()
    assert await enqueue.queued() == []
    assert (await enqueue.post(body(record())))[0] == 200
    assert caplog.records == []


async def test_body_beyond_the_limit(valkey_url: str, redis_client: Any) -> None:
    async with running(valkey_url, maxBody=20_000) as enqueue, aiohttp.ClientSession() as http:
        url = f"http://127.0.0.1:{enqueue.role.port}/notify"
        async with http.post(url, data=body(*[record()] * 100)) as response:
            assert response.status == 413
        assert await enqueue.queued() == []
        assert (await enqueue.post(body(record())))[0] == 200


async def test_longest_message(enqueue: Running) -> None:
    records = [record(f"{EXPOSURE}/{n}.fits", event_id=str(n), padding="x" * 300) for n in range(MAX_RECORDS)]
    content = body(*records)
    status, answer = await enqueue.post(content.ljust(2**20))
    assert (status, len(answer["queued"])) == (200, MAX_RECORDS)
    assert await enqueue.queued() == [f"{EXPOSURE}/{n}.fits" for n in range(MAX_RECORDS)]
    status, answer = await enqueue.post(body(*[trigger("x")] * MAX_RECORDS, trigger("x")))
    assert (status, answer) == (413, {"error": "message has 1001 records, more than 1000"})
    status, answer = await enqueue.post(content.ljust(2**20 + 1))
    assert (status, answer) == (413, {"error": "the body is larger than 1048576 bytes"})


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[tuple[str, ExitStack, Callable[[], None]]]:
    """A Valkey of this test's own: URL, what stops it, and what starts it again."""
    port = embedded.free_port()
    with ExitStack() as stack:

        def start() -> None:
            stack.enter_context(embedded.valkey(tmp_path, port=port))

        start()
        yield f"redis://127.0.0.1:{port}/0", stack, start


async def test_answers_are_held_until_redis_is_back(own_valkey: tuple[str, ExitStack, Callable[[], None]]) -> None:
    url, stack, start = own_valkey
    async with running(url, hold=30) as enqueue:
        assert (await enqueue.post(body(record(key("R01_S00")))))[0] == 200
        stack.close()
        with structlog.testing.capture_logs() as logs:
            contents = [
                body(record(key(f"R02_S{n:02}")), record("x.fits"), trigger(key(f"R03_S{n:02}"))) for n in range(20)
            ]
            posts = [asyncio.create_task(enqueue.post(content)) for content in contents]
            await until(lambda: any(entry["event"].startswith("redis away") for entry in logs))
            assert not await enqueue.role.is_drained()
            assert enqueue.role.unready_reasons() == []
            assert not any(post.done() for post in posts)
            start()
            answers = await asyncio.wait_for(asyncio.gather(*posts), 60)
        assert {status for status, _ in answers} == {200}
        expected = [key(f"R0{raft}_S{n:02}") for raft in (2, 3) for n in range(20)]
        assert sorted(await enqueue.queued()) == sorted([key("R01_S00"), *expected])
        assert orjson.loads(await enqueue.redis.hget(keys.rejected(BUCKET), "x.fits"))["count"] == 20
        assert [entry["event"] for entry in logs].count("redis is back") == 1


async def test_503_when_redis_stays_away(own_valkey: tuple[str, ExitStack, Callable[[], None]]) -> None:
    url, stack, start = own_valkey
    async with running(url, hold=0.3) as enqueue:
        stack.close()
        loop = asyncio.get_running_loop()
        started = loop.time()
        assert await enqueue.post(body(record())) == (503, {"error": "Redis is away"})
        assert 0.25 < loop.time() - started < 5
        assert int(enqueue.headers["Retry-After"]) > 0
        start()
        async with asyncio.timeout(60):
            while (answer := await enqueue.post(body(record())))[0] == 503:
                pass
        assert answer[1]["queued"] + answer[1]["duplicate"] == [f"{BUCKET}/{key()}"]


@pytest.mark.parametrize("refusal", ["full", "read-only"])
async def test_redis_that_refuses_is_away(redis_client: Any, enqueue: Running, refusal: str) -> None:
    with structlog.testing.capture_logs() as logs:
        if refusal == "full":
            await redis_client.config_set("maxmemory", 1)
        else:
            await redis_client.replicaof("127.0.0.1", embedded.free_port())
        try:
            post = asyncio.create_task(enqueue.post(body(record())))
            await until(lambda: any(entry["event"].startswith("redis away") for entry in logs))
        finally:
            await redis_client.config_set("maxmemory", 0)
            await redis_client.replicaof("NO", "ONE")
        status, answer = await asyncio.wait_for(post, 60)
    assert (status, len(answer["queued"])) == (200, 1)


async def test_request_under_way_is_answered_at_the_end(valkey_url: str, redis_client: Any) -> None:
    async with running(valkey_url) as enqueue:
        stop = asyncio.Event()
        role = asyncio.create_task(enqueue.role.run(stop))
        await redis_client.client_pause(60_000, all=False)
        post = asyncio.create_task(enqueue.post(body(record())))
        async with asyncio.timeout(60):
            while await enqueue.role.is_drained():
                await asyncio.sleep(0)
        stop.set()
        await asyncio.wait_for(role, 60)
        closing = asyncio.create_task(enqueue.role.close())
        await until(lambda: enqueue.role.unready_reasons() != [])
        await redis_client.client_unpause()
        assert (await asyncio.wait_for(post, 60))[0] == 200
        await asyncio.wait_for(closing, 60)
        with pytest.raises(aiohttp.ClientConnectorError):
            await enqueue.post(body(record()))


async def test_close_without_start(valkey_url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"enqueue\.listen can't be bound"):
        async with running(valkey_url, listen={"host": "192.0.2.1", "port": 0}):
            pass


@pytest.mark.parametrize(
    "name", ["é ü/ß", "🔭\u202e\u0000\ufeff", "%00%FF+ &=?#", "..\\\\'\"{}", "a\nb\r\n\tc", "\u0301\u200d" * 50]
)
async def test_keys_of_any_unicode(enqueue: Running, name: str) -> None:
    """They are queued, rejected or ignored as they are, and their neighbours are not concerned."""
    odd = f"{EXPOSURE}/{name}.fits"
    status, answer = await enqueue.post(body(record(odd), record(), record(f"{name}.fits"), record(name)))
    queued = [key()] if "/" in name else [odd, key()]
    assert (status, await enqueue.queued()) == (200, queued)
    assert [item["key"] for item in answer["rejected"]] == ([odd] if "/" in name else []) + [f"{name}.fits"]
    assert answer["ignored"] == [f"{BUCKET}/{name}"]


async def test_digits_of_other_scripts_are_no_day(enqueue: Running) -> None:
    odd = key().replace("20251231", "٢٠٢٥١٢٣١")
    _, answer = await enqueue.post(body(record(odd)))
    assert [item["key"] for item in answer["rejected"]] == [odd]


async def test_key_of_a_mebibyte(enqueue: Running) -> None:
    """It is rejected with a reason, and kept in part only."""
    long = f"{EXPOSURE}/{'é' * 2**18}.fits"
    status, answer = await enqueue.post(body(record(long), record()))
    assert (status, answer["queued"]) == (200, [f"{BUCKET}/{key()}"])
    (rejected,) = answer["rejected"]
    assert (rejected["key"], "longer than" in rejected["reason"]) == (long[:1024], True)
    assert await enqueue.redis.hkeys(keys.rejected(BUCKET)) == [long[:1024]]


async def test_canary_with_an_event_of_a_mebibyte(enqueue: Running) -> None:
    """A name that long is not kept."""
    canary = record(f"{CANARY_FOLDER}1.txt", eventName="ObjectCreated:" + "x" * 2**19)
    status, _ = await enqueue.post(body(canary))
    assert status == 200
    (kept,) = await enqueue.redis.hvals(keys.canary(BUCKET))
    assert len(kept) < 1000


async def test_many_events_of_one_file_do_not_fill_the_log(enqueue: Running) -> None:
    with structlog.testing.capture_logs() as logs:
        status, answer = await enqueue.post(body(*[record(event_id=str(number)) for number in range(MAX_RECORDS)]))
    assert (status, len(answer["queued"]), len(answer["duplicate"])) == (200, 1, MAX_RECORDS - 1)
    assert [entry["event"] for entry in logs] == ["oldest events of a file dropped"]


async def test_body_of_64_mebibytes(enqueue: Running) -> None:
    async with aiohttp.ClientSession() as http:
        content = io.BytesIO(body(record()).ljust(64 * 2**20))
        async with http.post(f"http://127.0.0.1:{enqueue.role.port}/notify", data=content) as response:
            assert response.status == 413
    assert await enqueue.queued() == []
    assert (await enqueue.post(body(record())))[0] == 200


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = [
    ("s3",),
    ("s3", "bucket"),
    ("s3", "bucket", "name"),
    ("s3", "bucket", "arn"),
    ("s3", "object"),
    ("s3", "object", "key"),
    ("s3", "object", "size"),
    ("s3", "object", "eTag"),
    ("s3", "object", "sequencer"),
    ("eventName",),
    ("eventTime",),
    ("eventSource",),
    ("eventId",),
    ("opaqueData",),
]


@st.composite
def damaged_records(draw: st.DrawFn) -> object:
    """A record with some fields replaced by anything."""
    result = record(key("R99_S99"))
    for *outer, last in draw(st.lists(st.sampled_from(FIELDS), max_size=3)):
        inner: Any = result
        for name in outer:
            inner = inner[name] if isinstance(inner, dict) and name in inner else {}
        if isinstance(inner, dict):
            inner[last] = draw(json_values | st.text(alphabet="%+/aF0é ", max_size=30))
    return result


async def test_no_record_fails_its_neighbours(enqueue: Running) -> None:
    loop = asyncio.get_running_loop()

    async def check(records: list[object], place: int) -> None:
        await enqueue.redis.flushall()
        content = json.dumps({"Records": [*records[:place], record(), *records[place:]]}).encode()
        status, answer = await enqueue.post(content)
        assert status == 200
        assert f"{BUCKET}/{key()}" in answer["queued"]
        assert sum(len(answer[part]) for part in ("queued", "duplicate", "ignored", "rejected")) == len(records) + 1

    async def check_garbage(content: bytes) -> None:
        status, _ = await enqueue.post(content)
        assert status in (200, 400)

    quickly = settings(max_examples=number(300), deadline=None, suppress_health_check=list(HealthCheck), database=None)

    @quickly
    @given(st.lists(damaged_records() | json_values, max_size=4), st.integers(0, 4))
    def bodies(records: list[object], place: int) -> None:
        asyncio.run_coroutine_threadsafe(check(records, place), loop).result(30)

    @quickly
    @given(st.binary(max_size=60) | json_values.map(lambda value: repr(value).encode(errors="replace")))
    def garbage(content: bytes) -> None:
        asyncio.run_coroutine_threadsafe(check_garbage(content), loop).result(30)

    with structlog.testing.capture_logs():
        await asyncio.to_thread(bodies)
        await asyncio.to_thread(garbage)
