"""The images of a group, from the Butler: for groups whose arrivals are no longer recorded in Redis."""

from __future__ import annotations

from ..app.config import Config
from ..butler.reader import ButlerReader
from ..errors import UnknownObjectError
from ..model.objects import ExposureObject, parse
from ..queue.arrivals import FIRST, Arrived


class GroupReader:
    """Looks groups up in the Butler, by a process that is started for the first one.

    Parameters
    ----------
    config
        The whole configuration.
    """

    def __init__(self, config: Config) -> None:
        self._reader = ButlerReader(config.ingest, config.logging)

    async def images(self, instrument: str, group: str) -> list[Arrived]:
        """Return the images of a group as if they had arrived before all others.

        Raises
        ------
        AutoingestError
            If the Butler can't be read.
        """
        return [
            Arrived(FIRST, exposure.snap, obj.raft_sensor, exposure.obs_id, obj.url, max(size, 0), None, None)
            for exposure in await self._reader.group(instrument, group)
            for path, size in exposure.files.items()
            if (obj := _image(path)) is not None and obj.raft_sensor is not None
        ]

    async def close(self) -> None:
        """End the process."""
        await self._reader.close()


def _image(path: str) -> ExposureObject | None:
    try:
        obj = parse(path)
    except UnknownObjectError:
        return None
    return obj if isinstance(obj, ExposureObject) and not obj.is_guider else None
