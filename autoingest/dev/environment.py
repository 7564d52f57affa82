"""Where a development set-up is, and how other processes reach its store."""

from __future__ import annotations

import os
from pathlib import Path

DEVELOPMENT_DATA = Path("autoingest-data")
"""Folder of the development set-up, in the current folder."""

CONFIG_FILE = "config.yaml"
"""File in the folder that contains the configuration while the site runs, for operators' commands."""

NOTIFY_URL = "notify-url"
"""File in the folder that contains the URL for notifications while the site runs."""

S3_ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "development", "AWS_SECRET_ACCESS_KEY": "development"}
"""Credentials, which the embedded server does not check."""


def use_environment(data: Path) -> None:
    """Set what the environment lacks to reach the store of a development set-up, if one runs in a folder."""
    endpoint = data / "s3" / "url"
    if (data / NOTIFY_URL).exists() and endpoint.exists():
        for name, value in {**S3_ENVIRONMENT, "S3_ENDPOINT_URL": endpoint.read_text().strip()}.items():
            os.environ.setdefault(name, value)
