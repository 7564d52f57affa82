"""File descriptors: raises the limit, and shares them out so that the admin listener always gets some."""

from __future__ import annotations

import resource
from collections.abc import Sequence

import structlog

from .config import Config, Listen, Role

OTHERS = 64
"""File descriptors not used for connections: log, pipes to the Butler processes, libraries."""

LEAST = 8
"""Minimum number of connections per listener, however few descriptors there are."""

log = structlog.get_logger(__name__)


def raise_limit() -> int:
    """Raise the limit on open file descriptors to the hard limit, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        return soft
    return hard


def fit(config: Config, roles: Sequence[Role], limit: int) -> Config:
    """Return the configuration with connection limits lowered to what the file descriptors allow.

    The admin listener keeps its share whatever the clients of the other listeners do.

    Parameters
    ----------
    config
        The whole configuration.
    roles
        Roles that this process runs.
    limit
        Maximum number of open file descriptors.
    """
    listens = {"admin": config.admin.listen}
    if "enqueue" in roles and config.enqueue.listen:
        listens["enqueue"] = config.enqueue.listen
    if "events" in roles:
        listens["events"] = config.events.listen
    if "presence" in roles:
        listens["presence"] = config.presence.listen
    others = OTHERS + config.redis.max_connections
    if "ingest" in roles:
        others += config.ingest.header_requests
    wanted = sum(listen.max_connections for listen in listens.values())
    if 0 <= limit < others + wanted:
        share = max(0, limit - others) / wanted
        update = {}
        for name, listen in listens.items():
            fitting = max(LEAST, int(listen.max_connections * share))
            update[name] = getattr(config, name).model_copy(update={"listen": _limited(listen, fitting)})
        log.warning(
            "few file descriptors: listeners take fewer connections", limit=limit, wanted=others + wanted,
            **{name: block.listen.max_connections for name, block in update.items()},
            remedy="raise the limit (ulimit -n, LimitNOFILE)",
        )  # fmt: skip
        return config.model_copy(update=update)
    return config


def _limited(listen: Listen, number: int) -> Listen:
    return listen.model_copy(update={"max_connections": min(number, listen.max_connections)})
