"""YAML files that are validated by frozen classes. Keys are camelCase; unknown keys are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from ..errors import ConfigurationError


class Block(BaseModel):
    """A block of a file: a mapping of keys."""

    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", frozen=True, populate_by_name=True, use_attribute_docstrings=True
    )


class Document(Block):
    """A whole file."""

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Load a file.

        Raises
        ------
        ConfigurationError
            If the file can't be read, is not YAML, or is not valid; the message contains file, key and reason.
        """
        try:
            data = yaml.safe_load(path.read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as err:
            raise ConfigurationError(f"{path}: can't be read: {err}") from err
        if not isinstance(data, dict):
            raise ConfigurationError(f"{path}: the file must contain a mapping of keys, such as `buckets: [...]`")
        return cls.from_dict(data, str(path))

    @classmethod
    def from_dict(cls, data: dict[str, Any], source: str) -> Self:
        """Validate a mapping; `source` is its name in error messages."""
        try:
            return cls.model_validate(data)
        except ValidationError as err:
            lines = [
                f"{source}: {'.'.join(str(part) for part in error['loc']) or '(top)'}: {error['msg']}"
                for error in err.errors()
            ]
            raise ConfigurationError("\n".join(lines)) from err
