"""The connection to Redis that all roles of a process share."""

from __future__ import annotations

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from ..config import RedisConfig, redis_password

REDIS_AWAY = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.ResponseError,
    redis.InvalidResponse,
    OSError,
)
"""Errors that mean that Redis does not do its work now: keep one's own, back off, try again.

Every error reply counts. Redis tells many of its temporary refusals (``MISCONF``, ``NOREPLICAS``, ``BUSY``) from errors
of a command by their text only, and no object is given up for what Redis says.
"""


def connect(config: RedisConfig) -> redis.asyncio.Redis:
    """Make a client with a pool of connections of its own; nothing is sent yet.

    Parameters
    ----------
    config
        Where Redis is; the password comes from the environment.

    Returns
    -------
    client
        Decodes responses. When all connections are in use, callers wait for one. A command whose connection turns
        out to be broken is sent once more at once, so each must bear being done twice; one that is not answered in
        time is not.
    """
    password = redis_password()
    options: dict[str, object] = {}
    if password:
        options["password"] = password.get_secret_value()
    if config.username:
        options["username"] = config.username
    if config.ca_file:
        options["ssl_ca_certs"] = str(config.ca_file)
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        config.url,
        **options,
        max_connections=config.max_connections,
        timeout=config.socket_timeout,
        socket_timeout=config.socket_timeout,
        socket_connect_timeout=config.socket_timeout,
        socket_keepalive=True,
        decode_responses=True,
        # A path that is no UTF-8 comes and goes as the bytes that it is.
        encoding_errors="surrogateescape",
        retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
    )
    return redis.asyncio.Redis.from_pool(pool)
