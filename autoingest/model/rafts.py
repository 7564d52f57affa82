"""Names of detectors in short form, raft by raft."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

SCIENCE_SENSORS = tuple(f"S{row}{column}" for row in range(3) for column in range(3))
"""All sensors of a science raft."""


def by_raft(names: Iterable[str], most: int | None = None) -> str:
    """Return names of detectors, such as ``R22: S00-S22; R44: SG0 SG1``.

    ``S00-S22`` stands for all nine sensors of a science raft. A name without a raft stands for itself.

    Parameters
    ----------
    names
        Names of detectors, in any order.
    most
        Number of rafts that are named at the most; the others are counted.
    """
    rafts: defaultdict[str, list[str]] = defaultdict(list)
    for name in sorted(set(names)):
        raft, _, sensor = name.partition("_")
        rafts[raft].append(sensor)
    texts = [raft if sensors == [""] else f"{raft}: {_sensors(sensors)}" for raft, sensors in rafts.items()]
    if most is not None and len(texts) > most:
        texts = [*texts[:most], f"and {len(texts) - most} more rafts"]
    return "; ".join(texts)


def _sensors(sensors: list[str]) -> str:
    whole = set(SCIENCE_SENSORS) <= set(sensors)
    rest = [sensor for sensor in sensors if not whole or sensor not in SCIENCE_SENSORS]
    return " ".join([*([f"{SCIENCE_SENSORS[0]}-{SCIENCE_SENSORS[-1]}"] if whole else []), *rest])
