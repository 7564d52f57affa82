"""Looks at the Butler repository."""

from __future__ import annotations

from ...app.config import Config
from ...butler.reader import open_reader
from ...errors import ConfigurationError, TransientError
from ...model.checks import Check, fail


async def check_butler(config: Config) -> list[Check]:
    """Open the repository, and look at schema, instruments, privileges, connections and clock of its database."""
    try:
        async with open_reader(config.ingest, config.logging) as reader:
            return await reader.checks()
    except ConfigurationError as err:
        remedy = "correct ingest.repo; autoingest repo create makes a repository or completes one"
        return [fail("Butler", str(err), remedy)]
    except TransientError as err:
        remedy = "check the database server, LSST_DB_AUTH, and the schema and user in butler.yaml"
        return [fail("Butler", str(err), remedy)]
