"""What `autoingest.queue.connection` takes from the inside of redis-py is still as it expects."""

from __future__ import annotations

import inspect
import socket
from pathlib import Path

import pytest
import redis
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection

from autoingest.app.config import RedisConfig
from autoingest.queue.connection import connect


@pytest.mark.parametrize("kind", [Connection, SSLConnection, UnixDomainSocketConnection])
def test_connections_open_their_socket_in_connect(kind: type[AbstractConnection]) -> None:
    assert inspect.iscoroutinefunction(kind._connect)
    assert list(inspect.signature(kind._connect).parameters) == ["self"]


async def test_host_and_port_are_read_each_time_that_a_connection_opens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        connection = Connection(host="nowhere.invalid", port=1)
        connection.host, connection.port = server.getsockname()
        await connection._connect()
        assert connection.is_connected
        await connection.disconnect(nowait=True)


async def test_every_connection_is_checked_when_it_opens(valkey_url: str) -> None:
    opened: list[bool] = []

    class Checked(Connection):
        async def on_connect_check_health(self, check_health: bool = True) -> None:
            await super().on_connect_check_health(check_health)
            opened.append(check_health)

    pool = BlockingConnectionPool.from_url(valkey_url, connection_class=Checked)
    async with redis.asyncio.Redis.from_pool(pool) as client:
        await client.ping()
        await client.ping()
        assert len(opened) == 1


async def test_error_while_a_connection_is_checked_closes_it(valkey_url: str) -> None:
    class Refused(Connection):
        async def on_connect_check_health(self, check_health: bool = True) -> None:
            raise redis.ConnectionError("refused")

    pool = BlockingConnectionPool.from_url(valkey_url, connection_class=Refused)
    connection = pool.make_connection()
    with pytest.raises(redis.ConnectionError, match="refused"):
        await connection.connect()
    assert not connection.is_connected
    await pool.aclose()


async def test_pool_lists_all_of_its_connections(valkey_url: str) -> None:
    async with connect(RedisConfig(url=valkey_url)) as client:
        pool = client.connection_pool
        one, other = await pool.get_connection(), await pool.get_connection()
        await pool.release(one)
        assert list(pool._available_connections) == [one]
        assert list(pool._in_use_connections) == [other]
        await pool.release(other)


async def test_marked_connection_is_opened_anew_before_its_next_use(valkey_url: str) -> None:
    async with connect(RedisConfig(url=valkey_url)) as client:
        before = await client.client_id()
        assert await client.client_id() == before
        for connection in client.connection_pool._available_connections:
            connection.mark_for_reconnect()
            assert connection.should_reconnect()
        assert await client.client_id() != before
        assert not any(item.should_reconnect() for item in client.connection_pool._available_connections)


def test_pool_makes_connections_of_the_class_that_was_set_last(tmp_path: Path) -> None:
    pool = BlockingConnectionPool.from_url(f"unix://{tmp_path}/socket")
    made = pool.make_connection()
    assert type(made) is pool.connection_class is UnixDomainSocketConnection
