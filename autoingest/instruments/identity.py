"""What a file is, from a handful of its header's cards: cheap enough for every file."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import MetadataError
from . import camera, cards

CONTROLLERS = "OCHPQS"
"""Who ran the camera; the position is the number of millennia that an exposure id is moved by.

O the observatory, C the camera team, H phoSim, P and Q simulated O and C, S simulated images.
"""

_COUNTED_APART_UNTIL = {"C": 20231004, "P": 20250417, "Q": 20250417, "S": 20250417}
"""Last day on which a controller counted its exposures apart from O; H always does."""


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


def day_obs(header: Mapping[str, object], url: str | None, card: str = "DAYOBS") -> int:
    """Return the observing day, YYYYMMDD, from a card that holds a number or digits."""
    return cards.integer(header, card, url)


def exposure_day(header: Mapping[str, object], url: str | None, card: str = "DAYOBS") -> int:
    """Return the day from which an exposure id is made: hyphens and a time of day may be written, too.

    The calendar is not consulted.
    """
    value = cards.defined(header, card)
    if isinstance(value, str):
        digits = value.partition("T")[0].replace("-", "")
        value = digits if len(digits) == 8 else None
    result = cards.whole(value)
    if result is None or result < 0:
        raise cards.unusable(header, card, url, "is not a day YYYYMMDD")
    return result


def seq_num(header: Mapping[str, object], url: str | None, card: str = "SEQNUM") -> int:
    """Return the number of the exposure in its day, from its card."""
    result = cards.integer(header, card, url)
    if not 0 <= result < 100_000:
        raise cards.unusable(header, card, url, "is not a number from 0 to 99999")
    return result


def exposure_id(header: Mapping[str, object], url: str | None) -> int:
    """Return the exposure id: day and sequence number, moved by millennia where a controller counted apart.

    OBSID is not consulted, and may contradict.

    Raises
    ------
    MetadataError
        If DAYOBS, SEQNUM or CONTRLLR make no sense, or CALIB_ID says that this is a calibration product.
    """
    if "CALIB_ID" in header:
        raise cards.unusable(header, "CALIB_ID", url, "says that this is no raw image")
    day, number = exposure_day(header, url), seq_num(header, url)
    controller = cards.defined(header, "CONTRLLR")
    if controller and controller != "O":
        if not isinstance(controller, str) or len(controller) != 1 or controller not in CONTROLLERS:
            raise cards.unusable(header, "CONTRLLR", url, f"is none of {', '.join(CONTROLLERS)}")
        if day <= _COUNTED_APART_UNTIL.get(controller, day):
            day += CONTROLLERS.index(controller) * 1000_00_00
    return day * 100_000 + number


def group(header: Mapping[str, object], exposure: int, url: str | None) -> str:
    """Return the group's name: the card GROUPID, else the exposure id as text."""
    return str(exposure) if cards.defined(header, "GROUPID") is None else cards.text(header, "GROUPID", url)


def detector(camera: camera.Camera, header: Mapping[str, object], url: str | None) -> int:
    """Return the detector's number from the cards RAFTBAY and CCDSLOT."""
    name = f"{cards.as_text(header, 'RAFTBAY', url)}_{cards.as_text(header, 'CCDSLOT', url)}"
    if name not in camera.detector_ids:
        raise MetadataError(
            f"RAFTBAY_CCDSLOT = {name!r} is not a detector of {camera.name} ({url})",
            card="RAFTBAY, CCDSLOT", value=name, path=url,
        )  # fmt: skip
    return camera.detector_ids[name]


class Rules:
    """How a camera's headers tell what a file is; a camera overrides what is odd about its own."""

    camera: ClassVar[camera.Camera]
    instrume: ClassVar[tuple[str, ...]]
    """Values of the card INSTRUME, in lower case."""
    identity_needs_repairs: ClassVar[bool] = False
    """Whether repairs change what a file is."""

    @classmethod
    def accepts(cls, header: Mapping[str, object]) -> bool:
        """Tell whether a header is this camera's, if it is none of the cameras' that are asked before."""
        name = header.get("INSTRUME")
        return isinstance(name, str) and name.lower() in cls.instrume

    @classmethod
    def repair(cls, header: MutableMapping[str, Any]) -> None:
        """Repair in place what is known to be wrong with a header.

        May raise anything: what was changed by then stays, what would have come after is not done.
        """

    @classmethod
    def read_obs_id(cls, header: Mapping[str, object], url: str | None) -> str:
        """Return the observation's name."""
        return cards.as_text(header, "OBSID", url)

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

    @classmethod
    def identity(cls, header: Mapping[str, object], url: str) -> Identity:
        """Return what a file is, from its header as corrected and repaired."""
        number = cls.read_exposure_id(header, url)
        return Identity(
            instrument=cls.camera.name,
            exposure_id=number,
            obs_id=cls.read_obs_id(header, url),
            detector=cls.read_detector(header, url),
            group=group(header, number, url),
            day_obs=cls.read_day_obs(header, url),
        )
