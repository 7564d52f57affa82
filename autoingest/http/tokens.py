"""Checking the secrets that clients send."""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from pydantic import SecretStr


class Secrets:
    """A set of valid secrets.

    Parameters
    ----------
    secrets
        The valid secrets; none means that no secret is required.
    """

    def __init__(self, secrets: Sequence[SecretStr]) -> None:
        self._secrets = [secret.get_secret_value().encode() for secret in secrets]

    def __bool__(self) -> bool:
        """Return whether a secret is required."""
        return bool(self._secrets)

    def matches(self, given: str) -> bool:
        """Return whether `given` is valid; it is compared with each secret in constant time."""
        shown = given.encode(errors="surrogateescape")
        matches = [hmac.compare_digest(shown, secret) for secret in self._secrets]
        return any(matches)

    def in_header(self, authorization: str | None) -> bool:
        """Return whether an ``Authorization`` header contains a valid secret: ``Bearer SECRET``."""
        scheme, _, token = (authorization or "").partition(" ")
        return scheme.lower() == "bearer" and self.matches(token.strip(" "))

    def admits(self, authorization: str | None) -> bool:
        """Return whether a request with this ``Authorization`` header is allowed."""
        return not self._secrets or self.in_header(authorization)
