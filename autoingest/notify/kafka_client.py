"""The arguments of Kafka clients, from the configuration."""

from __future__ import annotations

import ssl
from typing import Any

from ..app.config import KafkaConfig, KafkaConnection
from ..app.secrets import KAFKA_PASSWORD, kafka_password
from ..errors import ConfigurationError

SESSION = 30.0
"""Seconds without a heartbeat after which the group reassigns a member's partitions, and for which it waits for members
when partitions are reassigned."""

HEARTBEAT = 3.0
"""Seconds between heartbeats."""

REQUEST = 40.0
"""Time limit in seconds for a request; joining a group takes up to `SESSION`."""

METADATA = 60.0
"""Maximum seconds until new topics and partitions are discovered."""

NEVER = 365 * 86400
"""Seconds without a poll after which aiokafka leaves the group; long, since polling pauses while Redis is away."""

FETCH = 8 * 2**20
"""Approximate number of bytes fetched ahead from each broker."""


def settings(config: KafkaConfig) -> dict[str, Any]:
    """Return the arguments of a consumer; raises as `connection_settings` does."""
    return {
        "group_id": config.group_id,
        "auto_offset_reset": config.auto_offset_reset,
        "enable_auto_commit": False,
        "session_timeout_ms": int(SESSION * 1000),
        "rebalance_timeout_ms": int(SESSION * 1000),
        "heartbeat_interval_ms": int(HEARTBEAT * 1000),
        "max_poll_interval_ms": NEVER * 1000,
        "fetch_max_bytes": FETCH,
        **connection_settings(config, "enqueue.kafka"),
    }


def connection_settings(config: KafkaConnection, block: str) -> dict[str, Any]:
    """Return the arguments that consumers and producers share.

    Parameters
    ----------
    config
        How Kafka is reached.
    block
        Name of the configuration block, for messages.

    Raises
    ------
    ConfigurationError
        If the password is missing, or a certificate can't be used.
    """
    return {
        "bootstrap_servers": list(config.bootstrap_servers),
        "client_id": "autoingest",
        "request_timeout_ms": int(REQUEST * 1000),
        "metadata_max_age_ms": int(METADATA * 1000),
        "retry_backoff_ms": 500,
        "security_protocol": config.security_protocol,
        **_tls(config, block),
        **_sasl(config, block),
    }


def _tls(config: KafkaConnection, block: str) -> dict[str, Any]:
    if not config.security_protocol.endswith("SSL"):
        return {}
    try:
        context = ssl.create_default_context(cafile=config.ca_file)
    except OSError as err:
        raise ConfigurationError(f"{block}.caFile {config.ca_file} can't be used: {err}") from err
    if config.cert_file:
        try:
            context.load_cert_chain(config.cert_file, config.key_file)
        except OSError as err:
            files = " with keyFile ".join(str(file) for file in (config.cert_file, config.key_file) if file)
            raise ConfigurationError(f"{block}.certFile {files} can't be used: {err}") from err
    return {"ssl_context": context}


def _sasl(config: KafkaConnection, block: str) -> dict[str, Any]:
    if config.sasl_username is None:
        return {}
    password = kafka_password()
    if password is None:
        raise ConfigurationError(
            f"{block}.saslUsername has no password: set {KAFKA_PASSWORD}, or {KAFKA_PASSWORD}_FILE to its file"
        )
    return {
        "sasl_mechanism": config.sasl_mechanism,
        "sasl_plain_username": config.sasl_username,
        "sasl_plain_password": password.get_secret_value(),
    }
