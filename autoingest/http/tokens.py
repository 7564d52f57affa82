"""Bearer tokens: who may ask."""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from aiohttp import hdrs, web
from pydantic import SecretStr


class Bearer:
    """Tells whether a request carries a token that is valid.

    Parameters
    ----------
    tokens
        Those that are valid.
    """

    def __init__(self, tokens: Sequence[SecretStr]) -> None:
        self._expected = [token.get_secret_value().encode() for token in tokens]

    @property
    def is_open(self) -> bool:
        """Whether there is no token, so that everybody may ask."""
        return not self._expected

    def matches(self, token: str) -> bool:
        """Tell whether `token` is valid; all are compared, each in constant time."""
        given = token.encode(errors="surrogateescape")
        matches = [hmac.compare_digest(given, expected) for expected in self._expected]
        return any(matches)

    def proven_by(self, request: web.Request) -> bool:
        """Tell whether the header Authorization carries a valid token."""
        scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        return scheme.lower() == "bearer" and self.matches(token.strip(" "))

    def admits(self, request: web.Request) -> bool:
        """Tell whether a request may be served."""
        return self.is_open or self.proven_by(request)
