"""Messages between a Butler process and its owner: JSON, each preceded by its length.

A message is a data class that both ends know, or an error. The receiver names the classes that it accepts; no message
can make it create anything else.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from functools import cache
from typing import Any, BinaryIO

import orjson
from pydantic import BaseModel, TypeAdapter

from .. import errors
from ..errors import AutoingestError

SIZE_BYTES = 8
"""Size in bytes of the length that precedes each message."""


def pack(message: object) -> bytes:
    """Return a message in the form in which it is sent.

    Parameters
    ----------
    message
        A data class, or an error. An error class that `autoingest.errors` does not define is replaced by its nearest
        base class that it does define; context values without a JSON type become text.
    """
    kind = type(message).__name__
    if isinstance(message, AutoingestError):
        kind = next(base for base in type(message).__mro__ if base.__module__ == errors.__name__).__name__
        message = [str(message), message.context]
    data = kind.encode() + b"\n" + orjson.dumps(message, default=_plain)
    return len(data).to_bytes(SIZE_BYTES, "big") + data


def unpack_size(data: bytes) -> int:
    """Return the length, in bytes, of the message that follows."""
    return int.from_bytes(data, "big")


def unpack(data: bytes, *kinds: type) -> Any:
    """Return the message from the form in which it was sent.

    Parameters
    ----------
    data
        The message, without its length.
    kinds
        Accepted data classes; an error is always accepted.

    Raises
    ------
    ValueError
        If it is neither.
    """
    name, _, content = data.partition(b"\n")
    for kind in kinds:
        if kind.__name__.encode() == name:
            return _adapter(kind).validate_json(content)
    error = getattr(errors, name.decode(), None)
    if isinstance(error, type) and issubclass(error, AutoingestError):
        text, context = orjson.loads(content)
        return error(text, **context)
    raise ValueError(f"a message {name!r} is not expected here")


def read(stream: BinaryIO, *kinds: type) -> Any:
    """Return the next message, one of `kinds`, or None when the owner has closed its end."""
    head = stream.read(SIZE_BYTES)
    if len(head) < SIZE_BYTES:
        return None
    data = stream.read(size := unpack_size(head))
    return unpack(data, *kinds) if len(data) == size else None


async def send(stream: asyncio.StreamWriter, data: bytes) -> None:
    """Send a packed message to a process.

    Raises
    ------
    ConnectionError
        If the process has closed its end, or has ended.
    """
    try:
        stream.write(data)
    except RuntimeError as err:  # uvloop raises this for a pipe that it has closed
        raise ConnectionResetError(str(err)) from err
    await stream.drain()


def write(stream: BinaryIO, message: object) -> None:
    """Send a message at once."""
    stream.write(pack(message))
    stream.flush()


def die_with(owner: int) -> None:
    """Let the kernel kill this process when its owner dies, even during a request."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != owner:
        sys.exit("owner has died")


@cache
def _adapter(kind: type) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _plain(value: object) -> object:
    """Convert a value that JSON has no type for."""
    match value:
        case BaseModel():
            return value.model_dump()
        case set() | frozenset():
            return list(value)
    return str(value)
