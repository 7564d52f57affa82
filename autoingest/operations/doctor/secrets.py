"""Looks whether the secrets that the configuration needs are in the environment."""

from __future__ import annotations

from ...app.config import Config
from ...app.secrets import NOTIFICATION_SECRETS, READ_TOKEN, WEBHOOK_SECRETS, tokens
from ...errors import ConfigurationError
from ...model.checks import Check, fail, ok, warn


def check_secrets(config: Config) -> list[Check]:
    """Look for the secrets in the environment of this command; their values are not shown.

    Those of Redis, Kafka, store and database are not named here: a wrong one shows where the server is asked.
    """
    needed = []
    if config.enqueue.listen or (config.enqueue.kafka and config.enqueue.kafka.check_secret):
        needed.append((NOTIFICATION_SECRETS, "whoever reaches the port may queue files"))
    if "events" in config.roles and not config.events.unauthenticated:
        needed.append((READ_TOKEN, "nobody may read events"))
    elif "presence" in config.roles and not config.presence.unauthenticated:
        needed.append((READ_TOKEN, "nobody may ask /v2/presence"))
    if config.events.webhooks:
        needed.append((WEBHOOK_SECRETS, "events are not signed"))
    return [_check(name, without) for name, without in needed]


def _check(variable: str, without: str) -> Check:
    name = f"secret {variable}"
    try:
        number = len(tokens(variable))
    except ConfigurationError as err:
        return fail(name, str(err), "mount the secret where the variable says")
    if number:
        return ok(name, "set" if number == 1 else f"{number} are set")
    return warn(name, f"not set here: {without}", f"set {variable}, or {variable}_FILE to its file")
