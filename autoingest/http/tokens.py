"""Secrets that others show, and how they show them."""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from pydantic import SecretStr


class Secrets:
    """Secrets of which any is valid.

    Parameters
    ----------
    secrets
        Those that are valid.
    """

    def __init__(self, secrets: Sequence[SecretStr]) -> None:
        self._secrets = [secret.get_secret_value().encode() for secret in secrets]

    def __bool__(self) -> bool:
        """Tell whether a secret is needed."""
        return bool(self._secrets)

    def matches(self, given: str) -> bool:
        """Tell whether `given` is valid; it is compared with all, each in constant time."""
        shown = given.encode(errors="surrogateescape")
        matches = [hmac.compare_digest(shown, secret) for secret in self._secrets]
        return any(matches)

    def in_header(self, authorization: str | None) -> bool:
        """Tell whether the value of a header Authorization carries a valid one, as ``Bearer SECRET``."""
        scheme, _, token = (authorization or "").partition(" ")
        return scheme.lower() == "bearer" and self.matches(token.strip(" "))

    def admits(self, authorization: str | None) -> bool:
        """Tell whether a request with this header Authorization may be served."""
        return not self._secrets or self.in_header(authorization)
