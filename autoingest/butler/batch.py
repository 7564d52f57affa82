"""Identifies and translates the files of a batch from their headers, before the repository is touched."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from .. import instruments
from ..errors import MetadataError, PermanentError
from ..instruments import ExposureRecord, GuiderIdentity, Identity, exposure_record, identify, identify_guider
from ..model.objects import parse_obs_id
from ..model.text import exception_text
from . import bookmark
from .engine import FileResult, IngestFile, Key
from .exposures import Exposures, Fingerprint
from .outage import is_outage

NUMBERS, DAYS = 100_000, 10_000_000
"""An exposure id consists of the day, whose first digit may encode the controller, and five digits of the sequence
number. Only the ids of LSST-TS8 are derived from the time instead."""

DECISIVE_CARDS = (
    "OBSID", "DAYOBS", "SEQNUM", "CONTRLLR", "GROUPID", "CURINDEX", "MAXINDEX", "FILTER", "FILTER1", "FILTER2",
    "IMGTYPE", "TESTTYPE", "OBJECT", "PROGRAM", "RUNNUM", "REASON", "VIGN_MIN",
)  # fmt: skip
"""Cards of those fields of an exposure that are never refined later."""

REFINED_CARDS = (
    "MJD-BEG", "DATE-BEG", "MJD-OBS", "DATE-OBS", "DATE-END", "TIMESYS", "EXPTIME", "SHUTTIME", "DARKTIME", "RA", "DEC",
    "RASTART", "DECSTART", "RADESYS", "TRACKSYS", "ROTPA", "ROTANGLE", "ROTCOORD", "AZSTART", "ELSTART", "AMSTART",
)  # fmt: skip
"""Cards of pointing and times."""


@dataclass(frozen=True)
class Item:
    """A file, identified from its header."""

    file: IngestFile
    identity: Identity | GuiderIdentity
    decisive: Sequence[str]
    """`DECISIVE_CARDS` and those of its camera."""

    @property
    def exposure(self) -> Key | None:
        """Key of the exposure; None for a guider, whose header does not give it."""
        return (self.identity.instrument, self.identity.exposure_id) if isinstance(self.identity, Identity) else None

    @property
    def order(self) -> tuple[bool, str, str, int]:
        """Sorting key: guiders last; the same in every writer, so that writers do not deadlock."""
        return self.file.is_guider, self.identity.instrument, self.identity.obs_id, self.identity.detector

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """The values of the cards that describe the exposure.

        Of files with the same exposure and fingerprint, only one is translated and compared with the record.
        """
        get = self.file.header.get
        values = tuple(map(get, self.decisive)), tuple(map(get, REFINED_CARDS))
        try:
            hash(values)
        except TypeError:  # a sidecar may hold a list
            return (repr(values[0]),), (repr(values[1]),)
        return values


TranslatedHeaders = dict[tuple[Key, Fingerprint], ExposureRecord]
"""Translated headers, to be compared with stored exposures or to be stored."""


def identify_files(
    files: Sequence[IngestFile],
    admit: Callable[[str], None],
    results: dict[str, FileResult],
) -> list[Item]:
    """Identify each file.

    Parameters
    ----------
    files
        The batch.
    admit
        Called with the instrument of each file; raises `PermanentError` if it can't be ingested.
    results
        Receives the failures, by path.

    Returns
    -------
    items
        The others, in the order in which they are written.
    """
    items = []
    for file in {file.path: file for file in files}.values():
        bookmark.mark(file.path)
        try:
            identity = (identify_guider if file.is_guider else identify)(file.header, file.url)
            _check_key(file, identity)
            admit(identity.instrument)
            item = Item(file, identity, (*DECISIVE_CARDS, *instruments.get(identity.instrument).decisive_cards))
            _ = item.fingerprint  # a header may contain values that can't be converted to text
        except BaseException as err:  # whatever a library raises concerns this file only
            if is_outage(err):
                raise
            reason, exception = failure_text(err)
            results[file.path] = FileResult(file.path, "failed", reason=reason, exception=exception)
        else:
            items.append(item)
    bookmark.mark("")
    # An exposure's record is made from the first of its files: one whose header agrees with most others.
    alike = Counter((item.exposure, item.fingerprint) for item in items)
    return sorted(
        items,
        key=lambda item: (*item.order[:2], item.exposure or (), -alike[item.exposure, item.fingerprint], item.order),
    )


def _check_key(file: IngestFile, identity: Identity | GuiderIdentity) -> None:
    """Raise an error if a repaired header is of another exposure than the file's key.

    The record of an exposure is made from its first file; with a wrong one, no other file could be ingested.
    """
    in_key = parse_obs_id(file.obs_id or "")
    if in_key is None:
        return
    if parse_obs_id(identity.obs_id.strip()) != in_key:
        raise MetadataError(
            f"OBSID = {identity.obs_id!r} is not the exposure of its key ({file.url})", card="OBSID", path=file.url
        )
    if not isinstance(identity, Identity):
        return
    day, number = divmod(identity.exposure_id, NUMBERS)
    if day % DAYS == identity.day_obs % DAYS and number != in_key.seq_num:
        raise MetadataError(
            f"SEQNUM = {number} is not the exposure of its key ({file.url})", card="SEQNUM", path=file.url
        )
    if identity.day_obs != int(in_key.day_obs):
        raise MetadataError(
            f"DAYOBS = {identity.day_obs} is not the day of its key ({file.url})", card="DAYOBS", path=file.url
        )


def translate_headers(
    items: Sequence[Item], exposures: Exposures, results: dict[str, FileResult], *, lenient: bool
) -> TranslatedHeaders:
    """Translate one header per exposure, and those of its files that differ.

    A header that can't be translated fails its file only if no other file's header can be used instead.

    Parameters
    ----------
    items
        Files of the batch.
    exposures
        Knows the headers that have been compared with the stored records.
    results
        Receives the failures, by path.
    lenient
        Whether a header with other pointing and times can be used instead.
    """
    headers: TranslatedHeaders = {}
    failures: dict[tuple[Key, Fingerprint], list[FileResult]] = defaultdict(list)
    for item in items:
        if (
            (key := item.exposure) is None
            or (key, item.fingerprint) in headers
            or exposures.agreed(key, item.fingerprint)
        ):
            continue
        bookmark.mark(item.file.path)
        try:
            headers[key, item.fingerprint] = exposure_record(item.file.header, item.file.url)
        except BaseException as err:  # as above
            if is_outage(err):
                raise
            failures[key, item.fingerprint].append(failure(item, err))
    bookmark.mark("")
    for about, failed in failures.items():
        if about in headers or (lenient and _find_stand_in(*about, headers, exposures)):
            continue
        results |= {failure.path: failure for failure in failed}
    return headers


def _find_stand_in(key: Key, fingerprint: Fingerprint, headers: TranslatedHeaders, exposures: Exposures) -> bool:
    """Use the header of another file of the exposure for one whose pointing or times can't be read, if there is one."""
    for (other, cards), record in headers.items():
        if (other, cards[0]) == (key, fingerprint[0]):
            headers[key, fingerprint] = record
            return True
    known = exposures.get(key)
    if known is None or all(cards[0] != fingerprint[0] for cards in known.agreed):
        return False
    known.agreed.add(fingerprint)
    return True


def unsuccessful(
    item: Item, outcome: Literal["waiting", "failed"], reason: str = "", exception: str = ""
) -> FileResult:
    """Return the result of a file that is not in the repository."""
    identity = item.identity
    exposure_id, day_obs = (identity.exposure_id, identity.day_obs) if isinstance(identity, Identity) else (None, None)
    return FileResult(
        item.file.path,
        outcome,
        instrument=identity.instrument,
        exposure_id=exposure_id,
        obs_id=identity.obs_id,
        day_obs=day_obs,
        reason=reason,
        exception=exception,
    )


def failure(item: Item, error: BaseException) -> FileResult:
    """Return the result of a file that failed with an error."""
    return unsuccessful(item, "failed", *failure_text(error))


def failure_text(error: BaseException) -> tuple[str, str]:
    """Return reason and exception of a failure."""
    known = isinstance(error, PermanentError)
    text = exception_text(str(error) if known else f"{type(error).__name__}: {error}")
    return error.reason if isinstance(error, PermanentError) else PermanentError.reason, text
