"""Errors, by what the caller should do about them."""

from __future__ import annotations


class AutoingestError(Exception):
    """Base of every error that this program raises on purpose.

    Parameters
    ----------
    message
        What went wrong and, where there is one, the remedy.
    **context
        Fields for the log record and the dead letter (``path``, ``card``, ``value``, ...).
    """

    def __init__(self, message: str, **context: object) -> None:
        super().__init__(message)
        self.context = context


class TransientError(AutoingestError):
    """Something else is away (store, database, Redis): keep the work, back off, use up no attempt."""


class RefusedError(TransientError):
    """The database answers, but refuses a statement, perhaps for what one file makes of it."""


class PermanentError(AutoingestError):
    """The object can't be ingested as it is: count an attempt, then give up with a dead letter.

    The class attribute ``reason`` is the dead letter's reason, one word an operator can filter by.
    """

    reason = "failed"


class MissingObjectError(PermanentError):
    """The object isn't in the store."""

    reason = "missing"


class UnreadableObjectError(PermanentError):
    """The store serves other objects of the bucket, but not this one.

    Parameters
    ----------
    message
        What the store answers.
    passing
        Whether it is an error of the server or no answer at all, which may pass.
    **context
        As for `AutoingestError`.
    """

    reason = "unreadable"

    def __init__(self, message: str, *, passing: bool = False, **context: object) -> None:
        super().__init__(message, **context)
        self.passing = passing


class MetadataError(PermanentError):
    """The header can't be read or translated; the message names the card, its value and the file."""

    reason = "metadata"


class ConflictError(PermanentError):
    """The Butler holds a record that contradicts this object's header."""

    reason = "conflict"


REASONS = ("missing", "unreadable", "metadata", "conflict", "no-exposure", "crash", "unknown", "failed")
"""Every reason of a dead letter: those of `PermanentError`, and a guider without its exposure (``no-exposure``), a file
that ends processes (``crash``), and a key of an unknown shape (``unknown``)."""


class UnknownObjectError(AutoingestError):
    """The key fits none of the known shapes: reject it."""


class ConfigurationError(AutoingestError):
    """The configuration or the environment is wrong; the message says what to change."""
