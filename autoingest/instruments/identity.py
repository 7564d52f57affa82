"""What a file is, from a handful of its header's cards: cheap enough for every file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

from ..cameras import CAMERAS
from ..errors import MetadataError
from . import base, cards
from .translation import chosen, own

if TYPE_CHECKING:
    from .header import HeaderTranslator

CONTROLLERS = "OCHPQS"
"""Who ran the camera; the position is the number of millennia that an exposure id is moved by.

O the observatory, C the camera team, H phoSim, P and Q simulated O and C, S simulated images.
"""

_OWN_SEQUENCE_UNTIL = {"C": 20231004, "H": 99991231, "P": 20250417, "Q": 20250417, "S": 20250417}
"""Last day on which a controller counted its exposures apart from O."""

_DAY_OBS = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)(?:T.*)?")
_DAYS = (19700102, 20501231)
_OBS_ID = re.compile(r"[A-Z]{2}_([A-Z])_\d{8}_(\d{1,6})")


@dataclass(frozen=True, slots=True)
class Identity:
    """Which exposure and detector a file holds."""

    instrument: str
    exposure_id: int
    obs_id: str
    detector: int
    group: str
    """Name of the group, the exposure id as text where the header names none."""
    day_obs: int
    """YYYYMMDD."""


@dataclass(frozen=True, slots=True)
class GuiderIdentity:
    """What the header of a guider file tells."""

    instrument: str
    obs_id: str
    detector: int


def identify(header: Mapping[str, object], url: str) -> Identity:
    """Tell which exposure and detector a file holds, without translating its whole header.

    Parameters
    ----------
    header
        Cards of the file, None where a card is undefined.
    url
        The file, for messages.

    Raises
    ------
    MetadataError
        If a card that is needed is missing or makes no sense.
    """
    rules = rules_of(header, url)
    if not cards.is_repaired(header):
        if corrections := _corrections(rules.camera.name, rules.read_obs_id(header, url)):
            header = {**header, **corrections}
        if repairs := rules.identity_repairs(header):
            header = {**header, **repairs}
    number = rules.read_exposure_id(header, url)
    return Identity(
        instrument=rules.camera.name,
        exposure_id=number,
        obs_id=rules.read_obs_id(header, url),
        detector=rules.read_detector(header, url),
        group=group(header, number, url),
        day_obs=rules.read_day_obs(header, url),
    )


def identify_guider(header: Mapping[str, object], url: str) -> GuiderIdentity:
    """Tell what a guider file holds; it names neither a group nor times.

    Raises
    ------
    MetadataError
        If a card that is needed is missing or makes no sense, or the detector is no guide detector.
    """
    camera = camera_of(header, url)
    number = detector(camera, header, url)
    if number not in camera.guiders:
        name = f"{header['RAFTBAY']}_{header['CCDSLOT']}"
        raise MetadataError(
            f"RAFTBAY_CCDSLOT = {name!r} is not a guide detector of {camera.name} ({url})",
            card="RAFTBAY, CCDSLOT", value=name, path=url,
        )  # fmt: skip
    return GuiderIdentity(camera.name, cards.text(header, "OBSID", url), number)


def day_obs(header: Mapping[str, object], url: str | None, card: str = "DAYOBS") -> int:
    """Return the observing day, YYYYMMDD, from its card.

    Days from 1970 on, where the Butler's time begins, to the end of 2050, for which the ids were laid out.
    """
    match = _DAY_OBS.fullmatch(str(cards.defined(header, card)))
    if match:
        year, month, day = (int(part) for part in match.groups())
        result = year * 10000 + month * 100 + day
        if _DAYS[0] <= result <= _DAYS[1]:
            try:
                date(year, month, day)
            except ValueError:
                pass
            else:
                return result
    raise cards.unusable(header, card, url, "is not a day YYYYMMDD")


def seq_num(header: Mapping[str, object], url: str | None, card: str = "SEQNUM") -> int:
    """Return the number of the exposure in its day, from its card."""
    result = cards.integer(header, card, url)
    if not 0 <= result < 100_000:
        raise cards.unusable(header, card, url, "is not a number from 0 to 99999")
    match = _OBS_ID.fullmatch(str(cards.defined(header, "OBSID")))
    if match and int(match[2]) != result:
        raise cards.unusable(header, card, url, f"contradicts OBSID = {header['OBSID']!r}")
    return result


def controller(header: Mapping[str, object], url: str | None) -> str:
    """Return who ran the camera: the card CONTRLLR, else as the OBSID says, else O."""
    match = _OBS_ID.fullmatch(str(cards.defined(header, "OBSID")))
    told = match[1] if match and match[1] in CONTROLLERS else None
    value = cards.defined(header, "CONTRLLR")
    if value is None:
        return told or "O"
    if not isinstance(value, str) or len(value) != 1 or value not in CONTROLLERS:
        raise cards.unusable(header, "CONTRLLR", url, f"is none of {', '.join(CONTROLLERS)}")
    if told not in (None, value):
        raise cards.unusable(header, "CONTRLLR", url, f"contradicts OBSID = {header['OBSID']!r}")
    return value


def exposure_id(header: Mapping[str, object], url: str | None) -> int:
    """Return the exposure id: day and sequence number, moved by millennia where a controller counted apart.

    Raises
    ------
    MetadataError
        If DAYOBS, SEQNUM or CONTRLLR make no sense, or CALIB_ID says that this is a calibration product.
    """
    if cards.defined(header, "CALIB_ID") is not None:
        raise cards.unusable(header, "CALIB_ID", url, "says that this is no raw image")
    day, who = day_obs(header, url), controller(header, url)
    apart = day <= _OWN_SEQUENCE_UNTIL.get(who, 0)
    return (day + (CONTROLLERS.index(who) * 1000_00_00 if apart else 0)) * 100_000 + seq_num(header, url)


def group(header: Mapping[str, object], exposure: int, url: str | None) -> str:
    """Return the group's name: the card GROUPID, else the exposure id as text."""
    return str(exposure) if cards.defined(header, "GROUPID") is None else cards.text(header, "GROUPID", url)


def detector(camera: base.Camera, header: Mapping[str, object], url: str | None) -> int:
    """Return the detector's number from the cards RAFTBAY and CCDSLOT."""
    name = f"{cards.text(header, 'RAFTBAY', url)}_{cards.text(header, 'CCDSLOT', url)}"
    if name not in camera.detector_ids:
        raise MetadataError(
            f"RAFTBAY_CCDSLOT = {name!r} is not a detector of {camera.name} ({url})",
            card="RAFTBAY, CCDSLOT", value=name, path=url,
        )  # fmt: skip
    return camera.detector_ids[name]


class Rules:
    """How a camera's headers tell what a file is; a camera overrides what is odd about its own."""

    camera: ClassVar[base.Camera]

    @classmethod
    def recognises(cls, header: Mapping[str, object], url: str | None) -> bool:
        """Tell whether a header is this camera's though its card INSTRUME doesn't say so."""
        return False

    @classmethod
    def repairs(cls, header: Mapping[str, object]) -> dict[str, object]:
        """Return the cards that repair what is known to be wrong with a header. Never raises."""
        return {}

    @classmethod
    def identity_repairs(cls, header: Mapping[str, object]) -> dict[str, object]:
        """Return those of the repairs on which the identity depends."""
        return {}

    @classmethod
    def read_obs_id(cls, header: Mapping[str, object], url: str | None) -> str:
        """Return the observation's name."""
        return cards.text(header, "OBSID", url)

    @classmethod
    def read_day_obs(cls, header: Mapping[str, object], url: str | None) -> int:
        """Return the observing day, YYYYMMDD."""
        return day_obs(header, url)

    @classmethod
    def read_exposure_id(cls, header: Mapping[str, object], url: str | None) -> int:
        """Return the exposure id."""
        return exposure_id(header, url)

    @classmethod
    def read_detector(cls, header: Mapping[str, object], url: str | None) -> int:
        """Return the detector's number."""
        return detector(cls.camera, header, url)


_INSTRUMENTS = {value: name for name, camera in CAMERAS.items() for value in camera.instrume}


def instrument_of(header: Mapping[str, object], url: str | None) -> str | None:
    """Return the name of the camera that a header is of; None if it can't be told."""
    name = _INSTRUMENTS.get(str(cards.defined(header, "INSTRUME")).lower())
    return name or next((name for name, rules in own().items() if rules.recognises(header, url)), None)


def rules_of(header: Mapping[str, object], url: str) -> type[HeaderTranslator]:
    """Return the rules of the camera that a header is of, by INSTRUME or what the camera is known by."""
    name = instrument_of(header, url)
    if name is None:
        raise cards.unusable(header, "INSTRUME", url, "is no known instrument")
    return own()[name]


def camera_of(header: Mapping[str, object], url: str) -> base.Camera:
    """Return the camera that a header is of."""
    return rules_of(header, url).camera


@lru_cache(maxsize=256)
def _corrections(instrument: str, obs_id: str) -> dict[str, object]:
    """Return the cards of an exposure that a correction file replaces, looked up once for all its files."""
    from astro_metadata_translator import fix_header

    header: dict[str, object] = {"INSTRUME": CAMERAS[instrument].instrume[0], "OBSID": obs_id}
    lookup = type("Lookup", (chosen(instrument),), {"name": None, "fix_header": lambda *_, **__: False})
    told = dict(header)
    fix_header(header, translator_class=lookup)
    return {card: value for card, value in header.items()
            if told.get(card) != value and not card.startswith(cards.REPAIRED)}  # fmt: skip
