"""YAML files that are validated by frozen classes. Keys are camelCase; unknown keys are refused."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


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
                f"{source}: {'.'.join(str(part) for part in error['loc']) or '(top)'}: {cls._in_words(error)}"
                for error in err.errors()
            ]
            raise ConfigurationError("\n".join(lines)) from err

    @classmethod
    def _in_words(cls, error: ErrorDetails) -> str:
        """Return what is wrong with a key; of an unknown one, which was probably meant."""
        if error["type"] == "missing":
            return "this key is required"
        if error["type"] != "extra_forbidden":
            return error["msg"]
        schema = cls.model_json_schema()
        blocks = [schema, *schema.get("$defs", {}).values()]
        known = {name for block in blocks for name in block.get("properties", ())}
        close = get_close_matches(str(error["loc"][-1]), sorted(known), 1)
        return f"there is no such key; did you mean {close[0]}?" if close else "there is no such key"
