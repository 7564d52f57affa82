"""The owner of each queue: a bucket's queue belongs to one repository, and only its workers take from it.

Two sites that share a Redis database by mistake would otherwise silently take each other's images. The first worker of
a bucket sets the marker, ``autoingest queue site --take`` changes it. The old services ignore it.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import redis.asyncio

from ..errors import ConfigurationError
from . import keys
from .operator_log import note


class ForeignQueueError(ConfigurationError):
    """A bucket's queue belongs to another repository."""

    def __init__(self, bucket: str, owner: str, repo: str) -> None:
        super().__init__(
            f"the queue of {bucket} belongs to repository {owner}, not to {repo}: do two sites use one Redis database? "
            "If the repository has moved: autoingest queue site --take"
        )


def site_of(repo: str) -> str:
    """Return the marker of a repository, the same for its folder and for the ``butler.yaml`` in it."""
    name = repo.removesuffix("/butler.yaml").rstrip("/")
    return urlsplit(name).path if name.startswith("file:") else name


async def check_site(client: redis.asyncio.Redis, bucket: str, repo: str) -> None:
    """Set a bucket's marker if there is none.

    Raises
    ------
    ForeignQueueError
        If its queue belongs to another repository.
    """
    site = site_of(repo)
    if not await client.setnx(keys.site(bucket), site) and (owner := await owner_of(client, bucket)) not in (
        None,
        site,
    ):
        raise ForeignQueueError(bucket, str(owner), site)


async def owner_of(client: redis.asyncio.Redis, bucket: str) -> str | None:
    """Return the repository that owns a bucket's queue; None if no worker has ever taken from it."""
    owner = await client.get(keys.site(bucket))
    return None if owner is None else str(owner)


async def take_over(client: redis.asyncio.Redis, bucket: str, repo: str) -> None:
    """Make a repository the owner of a bucket's queue."""
    async with client.pipeline(transaction=True) as step:
        step.set(keys.site(bucket), site_of(repo))
        note(step, "took over the queue", bucket, why=f"for {site_of(repo)}")
        await step.execute()
