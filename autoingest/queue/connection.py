"""The connection to Redis that all roles of a process share."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urlsplit

import redis.asyncio
import structlog
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError

from ..app.config import RedisConfig, SentinelConfig
from ..app.secrets import redis_password, sentinel_password
from ..errors import ConfigurationError
from .health import Health, UnconfirmedError, cause, code

__all__ = ["REDIS_AWAY", "Client", "UnconfirmedError", "cause", "connect", "health"]

REDIS_AWAY = (redis.RedisError, OSError)
"""Errors that mean that Redis is not usable now: keep all data, back off, and retry.

Every error reply counts. Many temporary refusals (``MISCONF``, ``NOREPLICAS``, ``BUSY``) differ from errors of a
command only in their text, and no object may be given up because of Redis.
"""

ELSEWHERE = frozenset(
    {"READONLY", "LOADING", "MASTERDOWN", "UNBLOCKED", "CLUSTERDOWN", "NOREPLICAS", "TRYAGAIN", "MOVED", "ASK",
     "REDIRECT"}
)  # fmt: skip
"""Replies of a server that is not the primary, or not yet: all connections to it are closed, since the host name,
service or Sentinel may lead to another server by now.
"""

WATCH = 10.0
"""Seconds between two checks of the server's role and its ``maxmemory-policy``."""

_FIELD = re.compile(r"^(role|master_host|master_port|maxmemory_policy):(.*?)\r?$", re.MULTILINE)

log = structlog.get_logger(__name__)


class Client(redis.asyncio.Redis):
    """A client that works only with a primary, and knows whether Redis may evict what it writes."""

    health: Health
    """What is wrong with the server."""

    async def look(self) -> None:
        """Check the server's role and its ``maxmemory-policy``; the result is in `health`."""
        try:
            try:
                _judge(await _info(self), self.health)
            except redis.ConnectionError as err:
                if code(err) != "READONLY":
                    raise
                cast(_Pool, self.connection_pool).renew()
                await self.ping()
        except REDIS_AWAY as err:
            self.health.failed("look", err)
        else:
            self.health.worked("look")

    async def keep_looking(self) -> None:
        """Check periodically, for ever."""
        while True:
            await self.look()
            self.health.forget()
            await asyncio.sleep(WATCH)


def health(client: redis.asyncio.Redis) -> Health:
    """Return the health of a client's server; always healthy for a client that `connect` did not create."""
    return client.health if isinstance(client, Client) else Health("", None)


async def is_safe(client: redis.asyncio.Redis) -> bool:
    """Return whether Redis keeps what is written; check again if it did not at the last check."""
    if not isinstance(client, Client) or client.health.policy is None:
        return True
    await client.look()
    return client.health.policy is None


def connect(config: RedisConfig) -> Client:
    """Create a client with its own connection pool; nothing is sent yet.

    Parameters
    ----------
    config
        Where Redis is; the password comes from the environment.

    Returns
    -------
    client
        Decodes responses. When all connections are in use, callers wait for one. A command whose connection turns
        out to be broken, or to lead to a server that is no primary, is sent once more at once, so each must be
        safe to repeat; one that is not answered in time is not sent again.

    Raises
    ------
    ConfigurationError
        If the URL has an invalid parameter.
    """
    options: dict[str, Any] = {}
    if password := redis_password():
        options["password"] = password.get_secret_value()
    if config.username:
        options["username"] = config.username
    if config.ca_file:
        options["ssl_ca_certs"] = str(config.ca_file)
    times = {"socket_timeout": config.socket_timeout, "socket_connect_timeout": config.socket_timeout}
    parts = urlsplit(config.url)
    is_socket = parts.scheme == "unix"
    if not is_socket:
        options["socket_keepalive"] = True
    state = Health(parts.path, None) if is_socket else Health(parts.hostname or "localhost", parts.port or 6379)
    find = None
    if config.sentinel:
        tls = {"ssl": parts.scheme == "rediss", "ssl_ca_certs": options.get("ssl_ca_certs")}
        find = _Finder(config.sentinel, {**times, **tls})
    try:
        pool = _Pool.from_url(
            config.url,
            **options,
            **times,
            max_connections=config.max_connections,
            timeout=config.socket_timeout,
            decode_responses=True,
            # Paths that are not UTF-8 keep their bytes.
            encoding_errors="surrogateescape",
            retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        )
        pool.prepare(_CLASSES[parts.scheme], state, find)
        pool.make_connection()
    except (TypeError, ValueError, redis.RedisError) as err:
        raise ConfigurationError(f"redis.url {config.url}: {err}") from err
    client = cast(Client, Client.from_pool(pool))
    client.health = state
    return client


class _Finder:
    """Asks the Sentinels for the primary."""

    def __init__(self, config: SentinelConfig, options: Mapping[str, Any]) -> None:
        self._config = config
        password = sentinel_password()
        self._sentinel = Sentinel(
            [(host, int(port)) for host, _, port in (item.rpartition(":") for item in config.hosts)],
            sentinel_kwargs={
                **options,
                "username": config.username,
                "password": password.get_secret_value() if password else None,
                "decode_responses": True,
            },
        )

    async def __call__(self) -> tuple[str, int]:
        try:
            host, port = await self._sentinel.discover_master(self._config.service)
        except MasterNotFoundError:
            raise redis.ConnectionError(
                f"no Sentinel of {', '.join(self._config.hosts)} knows a primary of {self._config.service!r}"
            ) from None
        return str(host), int(port)

    async def close(self) -> None:
        await self._sentinel.aclose()


class _Pool(redis.asyncio.BlockingConnectionPool):
    """A pool of connections to the current primary, all of which can be renewed."""

    state: Health
    find: _Finder | None

    def prepare(self, kind: type[AbstractConnection], state: Health, find: _Finder | None) -> None:
        self.connection_class = kind
        self.state = state
        self.find = find

    def renew(self) -> None:
        """Reopen all connections before they are used again."""
        for connection in (*self._available_connections, *self._in_use_connections):
            connection.mark_for_reconnect()

    def make_connection(self) -> AbstractConnection:
        connection: _Primary = super().make_connection()  # type: ignore[no-untyped-call]
        connection.pool = self
        return connection

    async def ensure_connection(self, connection: AbstractConnection) -> None:
        if connection.should_reconnect():
            await connection.disconnect(nowait=True)
        await super().ensure_connection(connection)

    async def aclose(self) -> None:
        await super().aclose()
        if self.find:
            await self.find.close()


class _Primary(AbstractConnection):
    """A connection that is only ever used with a primary."""

    pool: _Pool

    async def _connect(self) -> None:
        if find := self.pool.find:
            state = self.pool.state
            self.host, self.port = state.host, state.port = await find()
        await super()._connect()  # type: ignore[safe-super, no-untyped-call]

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        await super().on_connect_check_health(check_health)
        _judge(await _info(self), self.pool.state)

    async def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*args, **options)
        except redis.TimeoutError:
            # If the server's machine is gone, no connection gets an answer.
            self.pool.renew()
            raise
        except (redis.ResponseError, redis.ConnectionError) as err:
            if code(err) not in ELSEWHERE:
                raise
            self.pool.renew()
            await self.disconnect(nowait=True)
            raise redis.ConnectionError(cause(err)) from None


class _Tcp(_Primary, Connection):
    pass


class _Tls(_Primary, SSLConnection):
    async def _connect(self) -> None:
        try:
            await super()._connect()
        except (FileNotFoundError, PermissionError) as err:
            raise redis.ConnectionError(f"redis.caFile {self.ca_certs}: {err.strerror}") from err


class _Unix(_Primary, UnixDomainSocketConnection):
    pass


_CLASSES = {"redis": _Tcp, "rediss": _Tls, "unix": _Unix}


async def _ask(target: Client | _Primary, *command: str) -> Any:
    if isinstance(target, Client):
        return await target.execute_command(*command)  # type: ignore[no-untyped-call]
    await target.send_command(*command, check_health=False)
    return await target.read_response()


async def _info(target: Client | _Primary) -> dict[str, str]:
    """Return the server's role and ``maxmemory-policy``, as far as this user may query them."""
    try:
        found = await _ask(target, "INFO")
        return {key: str(value) for key, value in (found.items() if isinstance(found, dict) else _FIELD.findall(found))}
    except NoPermissionError:
        pass
    try:
        found = await _ask(target, "CONFIG", "GET", "maxmemory-policy")
    except NoPermissionError:
        return {}
    values = list(found.values()) if isinstance(found, dict) else found[1::2]
    return {"maxmemory_policy": values[0]} if values else {}


def _judge(info: Mapping[str, str], state: Health) -> None:
    state.evicts(info.get("maxmemory_policy"))
    if info.get("role") == "slave":
        raise redis.ConnectionError(
            f"READONLY this server is a replica of {info.get('master_host')}:{info.get('master_port')}"
        )
