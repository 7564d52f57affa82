"""The state of Redis as seen by this process: reported by ``/readyz``, and logged once per outage."""

from __future__ import annotations

import re
import time
from typing import Any

import redis
import structlog

FORGET = 60.0
"""Seconds after which a failure that has not been repeated no longer counts."""

_CODE = re.compile(r"(?:^|-)([A-Z]{2,})\b")
_SCRIPT = re.compile(r",? script: [0-9a-f]{40}, on @user_script:\d+\.?$")
_IN_SCRIPT = re.compile(r"^ERR Error running script .*?-([A-Z]{2,} .*)", re.DOTALL)

log = structlog.get_logger(__name__)


class UnconfirmedError(redis.RedisError):
    """Too few replicas have confirmed a write in time."""


def cause(err: BaseException) -> str:
    """Return what Redis or the network says, with Redis's own code (``READONLY``, ``NOPERM``, ...) in front."""
    text = str(err) or type(err).__name__
    code = getattr(err, "status_code", None)
    if code and not text.startswith(code):
        text = f"{code} {text}"
    # Before version 7, Redis wraps errors of scripts. Later versions append the script's SHA.
    inner = _IN_SCRIPT.match(text)
    return _SCRIPT.sub("", inner[1] if inner else text)


def code(err: BaseException) -> str:
    """Return Redis's code of an error reply; the kind of error where there is none."""
    found = _CODE.match(cause(err))
    if found and not isinstance(err, OSError):
        return found[1]
    is_network = isinstance(err, (redis.ConnectionError, redis.TimeoutError, OSError))
    return "network" if is_network else type(err).__name__


def without_wrong_type(reply: Any, otherwise: Any = None) -> Any:
    """Return a reply of a pipeline that does not raise; `otherwise` for a key of the wrong type, which counts as none.

    Raises
    ------
    RedisError
        If the reply is any other error.
    """
    if isinstance(reply, Exception):
        if code(reply) != "WRONGTYPE":
            raise reply
        return otherwise
    return reply


class Health:
    """Collects failures and successes of all users of one client.

    An outage begins when the first of them fails and ends when none fails any more. It is logged when it begins, again
    only for a cause of another kind, and when it ends.

    Parameters
    ----------
    host
        Host of the server, or path of its socket.
    port
        Its port.
    """

    def __init__(self, host: str, port: int | None) -> None:
        self.host = host
        self.port = port
        self.policy: str | None = None
        """The ``maxmemory-policy``, if it is one under which acknowledged files may vanish."""
        self._policy_since = 0.0
        self._failing: dict[str, tuple[float, str]] = {}
        self._since = 0.0
        self._told: set[str] = set()

    def failed(self, user: str, err: BaseException, lasts: float = FORGET) -> None:
        """Record a failed operation.

        Parameters
        ----------
        user
            Name of the user, which calls `worked` once its operations succeed again.
        err
            What happened.
        lasts
            Seconds after which it no longer counts, if it is not met again.
        """
        now = time.monotonic()
        if not self._failing:
            self._since, self._told = now, set()
        self._failing[user] = (now + lasts, cause(err))
        if (kind := code(err)) not in self._told:
            self._told.add(kind)
            log.warning("redis away", error=cause(err), host=self.host, port=self.port, user=user)

    def worked(self, user: str) -> None:
        """Record a successful operation."""
        if user in self._failing:
            del self._failing[user]
            if not self._failing:
                self._end()

    def evicts(self, policy: str | None) -> None:
        """Record the ``maxmemory-policy``; None if it is not known."""
        unsafe = policy if policy not in (None, "noeviction") else None
        if unsafe and unsafe != self.policy:
            self._policy_since = self._policy_since if self.policy else time.monotonic()
            log.error(
                "redis may drop acknowledged files: no more are taken", maxmemory_policy=unsafe,
                remedy="set maxmemory-policy to noeviction", host=self.host, port=self.port,
            )  # fmt: skip
        elif self.policy and not unsafe:
            duration = round(time.monotonic() - self._policy_since, 1)
            log.info("redis no longer evicts keys", maxmemory_policy=policy, duration_s=duration)
        self.policy = unsafe

    @property
    def danger(self) -> str:
        """Why acknowledged files may vanish, while there is a `policy`."""
        return f"maxmemory-policy is {self.policy}: acknowledged files may vanish; set it to noeviction"

    def unready_reasons(self) -> list[str]:
        """Describe what is wrong; empty if nothing is."""
        self.forget()
        where = self.host if self.port is None else f"{self.host}:{self.port}"
        reasons = [text for _, text in self._failing.values()]
        if self.policy:
            reasons.insert(0, self.danger)
        return [f"Redis at {where}: {text}" for text in dict.fromkeys(reasons)]

    def forget(self) -> None:
        """Forget failures that have not been repeated in time."""
        now = time.monotonic()
        for user in [user for user, (until, _) in self._failing.items() if until < now]:
            self.worked(user)

    def _end(self) -> None:
        duration = round(time.monotonic() - self._since, 1)
        log.info("redis is back", duration_s=duration, host=self.host, port=self.port)
