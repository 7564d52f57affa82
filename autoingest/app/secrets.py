"""Secrets, which are never in the configuration file.

They come from environment variables, or from files whose paths are in environment variables with the suffix ``_FILE``.
"""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import SecretStr

from ..errors import ConfigurationError

REDIS_PASSWORD = "AUTOINGEST_REDIS_PASSWORD"  # noqa: S105 - the variable's name
SENTINEL_PASSWORD = "AUTOINGEST_SENTINEL_PASSWORD"  # noqa: S105
NOTIFICATION_SECRETS = "AUTOINGEST_NOTIFICATION_SECRETS"
KAFKA_PASSWORD = "AUTOINGEST_KAFKA_PASSWORD"  # noqa: S105
ADMIN_TOKEN = "AUTOINGEST_ADMIN_TOKEN"  # noqa: S105
PRESENCE_TOKEN = "AUTOINGEST_PRESENCE_TOKEN"  # noqa: S105
WEBHOOK_SECRETS = "AUTOINGEST_WEBHOOK_SECRETS"
READ_TOKEN = "AUTOINGEST_READ_TOKEN"  # noqa: S105

FOREIGN_SECRETS = (
    "S3_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "PGPASSWORD",
)  # fmt: skip
"""Environment variables of libraries that may contain a secret."""


def redis_password() -> SecretStr | None:
    """Return the Redis password from the environment, if it is set."""
    return _password(REDIS_PASSWORD)


def sentinel_password() -> SecretStr | None:
    """Return the password of the Redis Sentinels from the environment, if it is set."""
    return _password(SENTINEL_PASSWORD)


def notification_secrets() -> tuple[SecretStr, ...]:
    """Return the secrets that notifications may carry, from the environment, where white space separates them."""
    return tokens(NOTIFICATION_SECRETS)


def kafka_password() -> SecretStr | None:
    """Return the Kafka password from the environment, if it is set."""
    return _password(KAFKA_PASSWORD)


def _password(name: str) -> SecretStr | None:
    value = secret(name)
    return SecretStr(value) if value else None


def tokens(name: str) -> tuple[SecretStr, ...]:
    """Return the secrets in an environment variable: all that are valid at once, separated by white space."""
    return tuple(SecretStr(text) for text in (secret(name) or "").split())


def strip_foreign_secrets() -> None:
    """Strip white space from secrets that libraries read from the environment themselves."""
    for name, value in os.environ.items():
        if name in FOREIGN_SECRETS or name.startswith("LSST_RESOURCES_S3_PROFILE_"):
            os.environ[name] = value.strip()


def secret(name: str) -> str | None:
    """Return the value of the environment variable `name`, or the content of the file that ``{name}_FILE`` points to.

    Surrounding white space is stripped: editors and ``echo`` add a line break.

    Raises
    ------
    ConfigurationError
        If the file can't be read, or is empty.
    """
    if file := os.environ.get(name + "_FILE"):
        try:
            found = Path(file).read_text().strip()
        except (OSError, UnicodeDecodeError) as err:
            raise ConfigurationError(
                f"{name}_FILE: {file} can't be read: {err}; check the path and its permissions"
            ) from err
        if not found:
            raise ConfigurationError(f"{name}_FILE: {file} is empty; write the secret into it, or unset the variable")
        return found
    return (os.environ.get(name) or "").strip() or None
