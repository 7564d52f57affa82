"""A camera that writes exposures and sends notifications."""

from __future__ import annotations

from .camera import IMAGE_TYPES, Exposure, Sensor, sensors
from .notifier import Notifier, SentFile, notification
from .simulator import ORDERS, Event, Order, Result, Simulator
from .sinks import BucketSink, DirectorySink, Sink

__all__ = [
    "IMAGE_TYPES",
    "ORDERS",
    "BucketSink",
    "DirectorySink",
    "Event",
    "Exposure",
    "Notifier",
    "Order",
    "Result",
    "Sensor",
    "SentFile",
    "Simulator",
    "Sink",
    "notification",
    "sensors",
]
