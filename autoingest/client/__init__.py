"""Clients for the HTTP interfaces: what has arrived of a group, and what has happened to exposures.

Examples
--------
Wait for all images of a detector in a group, of however many snaps::

    from autoingest.client import PresenceClient

    with PresenceClient("http://presence.example:8001", token="...") as client:
        for image in client.wait_for("LSSTCam", "2026-11-22T00:01:13.570", 94, timeout=60):
            print(image.snap, image.uri)

Act on each complete exposure::

    from autoingest.client import EventsClient

    client = EventsClient("http://events.example:8003", token="...")
    for event in client.events(["exposure.complete"]):
        print(event.data["exposure"], event.data["visits"])

`AsyncPresenceClient` and `AsyncEventsClient` have the same methods as coroutines.
"""

from .events import AsyncEventsClient, EventsClient, EventsError, ReceivedEvent
from .presence import Arrivals, AsyncPresenceClient, Image, PresenceClient, PresenceError

__all__ = [
    "Arrivals",
    "AsyncEventsClient",
    "AsyncPresenceClient",
    "EventsClient",
    "EventsError",
    "Image",
    "PresenceClient",
    "PresenceError",
    "ReceivedEvent",
]
