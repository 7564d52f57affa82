"""Which server holds a bucket, and the credentials for it.

A bucket is named ``bucket`` or ``profile@bucket``. Both are looked up as ``lsst.resources`` does, so that this program
and every reader of the Butler agree:

* the variable ``LSST_RESOURCES_S3_PROFILE_<profile>`` holds ``https://accesskey:secret@host[:port]``, the key and the
  secret URL-encoded; where it is not set, ``S3_ENDPOINT_URL`` names the server, and where that isn't either it is AWS;
* credentials that are not in the URL are looked up by botocore: for a named profile the section of that
  name in the AWS credentials file, else ``AWS_ACCESS_KEY_ID`` and ``AWS_SECRET_ACCESS_KEY``, the file's default section
  or the machine's role.

``AWS_CA_BUNDLE`` names a PEM file with the certificate authorities of the servers, if they are not public ones. Every
client of a store uses it, including those of the Butler.

A Ceph bucket of another tenant is written ``tenant:bucket``.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, unquote

import botocore.session
from botocore.exceptions import BotoCoreError
from botocore.handlers import validate_bucket_name
from obstore.store import S3Store
from urllib3.exceptions import LocationParseError
from urllib3.util import Url, parse_url

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Config, S3Credential

ENDPOINT = "S3_ENDPOINT_URL"
PROFILE = "LSST_RESOURCES_S3_PROFILE_"

CONNECT_TIMEOUT = timedelta(seconds=2)
REQUEST_TIMEOUT = timedelta(seconds=4)
"""Time limit for one request with its body; an outage must be detected long before a batch times out."""
RETRIES = 3
"""Maximum number of retries of a request, all within `REQUEST_TIMEOUT`."""

CREDENTIAL_AGE = timedelta(minutes=15)
"""Interval at which botocore is asked again for credentials that may change, such as those of a machine's role."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where a bucket is."""

    bucket: str
    """Its name on the server."""
    endpoint: str | None
    """URL of the server; `None` is AWS."""
    region: str
    """Region that requests are signed for."""
    credential: Callable[[], S3Credential] = field(repr=False)
    """Returns the current credentials."""
    authorities: str | None
    """PEM file with the certificate authorities; `None` means the public ones."""

    def tls(self) -> ssl.SSLContext:
        """Return the context for connections to the server."""
        return ssl.create_default_context(cafile=self.authorities)


def resolve(bucket: str) -> Location:
    """Find a bucket's server and credentials.

    Parameters
    ----------
    bucket
        ``bucket`` or ``profile@bucket``.

    Returns
    -------
    Location

    Raises
    ------
    ConfigurationError
        If the environment lacks the endpoint or credentials, or names a file of certificate authorities that can't be
        used. The message says what to set, and never contains a secret.
    """
    profile, _, name = bucket.rpartition("@")
    variable = PROFILE + profile if profile and os.environ.get(PROFILE + profile) else ENDPOINT
    endpoint, keys = _parse_endpoint(variable)
    session = botocore.session.Session(profile=profile if profile and not keys else None)
    credential = _fixed(*keys) if keys else _from_session(session, bucket, profile)
    location = Location(
        name,
        endpoint,
        session.get_config_variable("region") or "us-east-1",
        credential,
        session.get_config_variable("ca_bundle"),
    )
    if location.authorities:
        try:
            location.tls()
        except (OSError, ValueError) as err:
            raise ConfigurationError(
                f"AWS_CA_BUNDLE: {location.authorities!r} is not a PEM file with certificates: {err}"
            ) from err
    return location


def open_store(bucket: str) -> S3Store:
    """Return a client of one bucket for reading.

    Parameters
    ----------
    bucket
        ``bucket`` or ``profile@bucket``.

    Raises
    ------
    ConfigurationError
        As `resolve` does.

    Notes
    -----
    Environment variables that only obstore reads (``AWS_ENDPOINT_URL_S3``, ``AWS_SESSION_TOKEN``) are overridden.
    """
    location = resolve(bucket)
    config: S3Config = {
        "region": location.region,
        "virtual_hosted_style_request": False,
        "skip_signature": False,
    }
    if location.endpoint:
        config["endpoint"] = config["aws_endpoint_url_s3"] = location.endpoint
    options: ClientConfig = {"allow_http": True, "connect_timeout": CONNECT_TIMEOUT, "timeout": REQUEST_TIMEOUT}
    if location.authorities:
        options["root_certificate"] = Path(location.authorities).read_bytes()
    return S3Store(
        quote(location.bucket, safe=""),
        config=config,
        client_options=options,
        retry_config={
            "max_retries": RETRIES,
            "retry_timeout": REQUEST_TIMEOUT,
            "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=1), "base": 2},
        },
        credential_provider=location.credential,
    )


@asynccontextmanager
async def open_client(bucket: str, connections: int = 32, service: Literal["s3", "sns"] = "s3") -> AsyncIterator[Any]:
    """Open an aiobotocore client of the server that holds a bucket, for administration.

    Parameters
    ----------
    bucket
        ``bucket`` or ``profile@bucket``; requests name it by `Location.bucket`.
    connections
        Maximum number of connections.
    service
        ``s3``, or ``sns`` for Ceph's topics.

    Raises
    ------
    ConfigurationError
        As `resolve` does.
    """
    # Imported here, because most processes don't need it.
    from aiobotocore.config import AioConfig
    from aiobotocore.session import AioSession

    location = resolve(bucket)
    credential = location.credential()
    session = AioSession()
    async with session.create_client(
        service,
        endpoint_url=location.endpoint,
        region_name=location.region,
        aws_access_key_id=credential["access_key_id"],
        aws_secret_access_key=credential["secret_access_key"],
        aws_session_token=credential.get("token"),
        verify=location.authorities,
        config=AioConfig(
            connect_timeout=5,
            read_timeout=30,
            max_pool_connections=connections,
            retries={"mode": "standard", "max_attempts": RETRIES},
            s3={"addressing_style": "path"},
        ),
    ) as client:
        if service == "s3" and ":" in location.bucket:
            client.meta.events.unregister("before-parameter-build.s3", validate_bucket_name)
        yield client


def _parse_endpoint(variable: str) -> tuple[str | None, tuple[str, str] | None]:
    text = os.environ.get(variable)
    if not text:
        return None, None
    # The URL contains a secret: no error may quote it, or be chained to one that does.
    try:
        url = parse_url(text)
    except LocationParseError:
        url = Url()
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigurationError(
            f"{variable}: not a URL of the form https://accesskey:secret@host:port "
            "(a slash in the key or the secret is written %2F)"
        )
    endpoint = Url(scheme=url.scheme, host=url.host, port=url.port, path=url.path).url
    if url.auth is None:
        return endpoint, None
    access_key, colon, secret = url.auth.partition(":")
    if not colon or ":" in secret:
        raise ConfigurationError(f"{variable}: what comes before the @ is not accesskey:secret (URL-encode the secret)")
    return endpoint, (unquote(access_key), unquote(secret))


def _fixed(access_key: str, secret: str) -> Callable[[], S3Credential]:
    return lambda: {"access_key_id": access_key, "secret_access_key": secret, "token": None, "expires_at": None}


def _from_session(session: botocore.session.Session, bucket: str, profile: str) -> Callable[[], S3Credential]:
    remedy = (
        f"set {PROFILE}{profile}=https://accesskey:secret@host, or add [{profile}] to the AWS credentials file"
        if profile
        else "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    )
    try:
        credentials = session.get_credentials()
    except BotoCoreError:
        credentials = None
    if credentials is None:
        raise ConfigurationError(f"no credentials for bucket {bucket}: {remedy}")

    def current() -> S3Credential:
        frozen = credentials.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + CREDENTIAL_AGE,
        }

    return current
