"""Opening a Butler repository."""

from __future__ import annotations

from lsst.daf.butler import Butler

from ..errors import ConfigurationError, TransientError
from . import database  # noqa: F401 - how connections behave
from .outage import cause, is_outage


def open_repository(repo: str, *, writeable: bool = False) -> Butler:
    """Open a repository.

    Parameters
    ----------
    repo
        Directory, URL or label.
    writeable
        Whether it is to be written.

    Raises
    ------
    ConfigurationError
        If there is no such repository, or it can't be used.
    TransientError
        If its database, or the store that contains it, is away.
    """
    reach_store(repo)
    try:
        return Butler.from_config(repo, writeable=writeable)
    except FileNotFoundError as err:
        raise ConfigurationError(f"no Butler repository at {repo!r}: {err}", repo=repo) from err
    except Exception as err:
        if is_outage(err):
            raise TransientError(f"the Butler repository {repo!r} can't be opened now: {cause(err)}") from err
        raise ConfigurationError(
            f"the Butler repository {repo!r} can't be opened: {type(err).__name__}: {err}", repo=repo
        ) from err


def reach_store(repo: str) -> None:
    """Raise at once if the store of a repository is away; the Butler's client would retry for more than a minute."""
    if not repo.startswith("s3://"):
        return
    import obstore
    from obstore.exceptions import BaseError

    from ..store.failure import explain
    from ..store.profiles import open_store, resolve

    bucket, _, key = repo.removeprefix("s3://").partition("/")
    if not key.endswith(".yaml"):
        key = f"{key.rstrip('/')}/butler.yaml".lstrip("/")
    try:
        obstore.get(open_store(bucket), key)
    except FileNotFoundError as err:
        if (failure := explain(err)).code == "NoSuchBucket":
            raise ConfigurationError(
                f"the Butler repository {repo!r} can't be read: {failure.text}", repo=repo
            ) from err
    except (BaseError, ValueError) as err:
        where = f" from {endpoint}" if (endpoint := resolve(bucket).endpoint) else ""
        message = f"the Butler repository {repo!r} can't be read{where}: {explain(err).text}"
        raise TransientError(message, repo=repo) from err
