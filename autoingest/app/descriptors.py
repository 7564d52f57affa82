"""File descriptors: as many as the machine allows, divided so that the admin listener is never left without."""

from __future__ import annotations

import resource
from collections.abc import Sequence

import structlog

from .config import Config, Listen, Role

OTHERS = 64
"""File descriptors for anything but connections: log, pipes of the Butler processes, the libraries' own."""

LEAST = 8
"""Connections that each listener may have, however few descriptors there are."""

log = structlog.get_logger(__name__)


def raise_limit() -> int:
    """Raise the limit of open file descriptors as far as this process may, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        return soft
    return hard


def fit(config: Config, roles: Sequence[Role], limit: int) -> Config:
    """Return the configuration with as many connections of listeners as there are file descriptors for.

    The admin listener keeps its share whatever the others' clients do.

    Parameters
    ----------
    config
        The whole configuration.
    roles
        Roles that this process runs.
    limit
        Open file descriptors at the most.
    """
    listens = {"admin": config.admin.listen}
    if "enqueue" in roles and config.enqueue.listen:
        listens["enqueue"] = config.enqueue.listen
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
