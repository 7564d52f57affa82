from __future__ import annotations

import asyncio
import io
import sys
from dataclasses import replace
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from autoingest import errors
from autoingest.app.config import LoggingConfig
from autoingest.butler.channel import pack, read, send, write
from autoingest.butler.engine import BatchResult, FileResult, OwedVisit
from autoingest.butler.messages import Batch, ButlerExposure, DefineVisits, FoundExposures, Setup, Started
from autoingest.model.exposures import ExposureSummary, Span
from autoingest.store.fits import BLOCK, CARD, parse_header
from testing import exposures
from testing.examples import number

SUMMARY = ExposureSummary(
    "LSSTCam", "o", 1, 20250714, 1, "g", 0, "science", None, None, "Ω", "i_39", None,
    Span("2025-07-14T00:00:00.000", None), (1, 91), "/r", ("LSSTCam/raw/all",), "owed",
)  # fmt: skip


def sent(message: object, *kinds: type) -> Any:
    stream = io.BytesIO()
    write(stream, message)
    stream.seek(0)
    received = read(stream, *kinds)
    assert stream.read() == b""
    return received


@pytest.mark.parametrize(
    "message",
    [
        Setup("/r", "none", "fail", LoggingConfig(level="ERROR", format="console"), 7, ("/a", "b.yaml")),
        Started(2**31),
        Batch(
            exposures.files(1, range(3), NONE=None, NESTED={"a": [1, 2.5, True]}, BIG=2**62, TINY=5e-324), 40.0, True
        ),
        DefineVisits([("LSSTCam", 2025071400001)], 0.5),
        BatchResult(
            [FileResult("p", "failed", "LSSTCam", 1, "o", 2, "R22_S11", True, False, "metadata", "é\0\ud7ff")],
            [("LSSTCam", 5)],
            [OwedVisit("LATISS", 6, "X: y")],
            [("LSSTCam", "can_see_sky")],
            [SUMMARY],
        ),
        FoundExposures(
            [
                ButlerExposure(
                    "LSSTCam", 1, "o", {"b/k": -1}, frozenset({("R22_S11", True), ("R22_S12", False)}), "owed", SUMMARY
                )
            ]
        ),
    ],
    ids=lambda message: type(message).__name__,
)
def test_what_is_sent_arrives(message: object) -> None:
    received = sent(message, Batch, DefineVisits, Setup, Started, BatchResult, FoundExposures)
    assert received == message
    assert repr(received) == repr(message) or isinstance(message, FoundExposures)  # True and 1 are equal


CARDS = st.dictionaries(
    st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_", min_size=1, max_size=8).filter(
        lambda name: name not in ("END", "CONTINUE", "HIERARCH")
    ),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=70)
    | st.integers(-(10**69), 10**69).map(str)
    | st.floats().map(str)
    | st.from_regex(r"[+-]?[0-9]{1,20}\.[0-9]{0,20}[ED][+-]?[0-9]{1,4}", fullmatch=True),
    max_size=8,
)


@settings(max_examples=number(300), deadline=None, database=None)
@given(CARDS)
def test_every_header_that_can_be_read_arrives(cards: dict[str, str]) -> None:
    """No card of a FITS file is changed on its way: none is infinite, or too long for JSON."""
    lines = [f"{name:8}= {value}"[:CARD].ljust(CARD) for name, value in cards.items()]
    data = ("".join(lines) + "END".ljust(CARD)).encode()
    parsed = parse_header(data.ljust((len(data) // BLOCK + 1) * BLOCK))
    assert parsed is not None
    message = Batch([replace(exposures.files(1, [0])[0], header=parsed[0])], 1.0)
    assert repr(sent(message, Batch)) == repr(message)


@pytest.mark.parametrize("kind", [kind for kind in vars(errors).values() if isinstance(kind, type)])
def test_errors_keep_their_class_and_context(kind: type[errors.AutoingestError]) -> None:
    received = sent(kind("card X is wrong", path="b/k", value=[1.5, None], kind=ValueError), Started)
    assert type(received) is kind
    assert str(received) == "card X is wrong"
    assert received.context == {"path": "b/k", "value": [1.5, None], "kind": "<class 'ValueError'>"}


def test_an_error_of_another_module_is_the_nearest_of_ours() -> None:
    class OwnError(errors.MetadataError):
        """Known to the sender only."""

    assert type(sent(OwnError("x"))) is errors.MetadataError


@pytest.mark.parametrize("name", ["DefineVisits", "Exception", "AutoingestErrors", "annotations", "os"])
def test_nothing_else_is_built(name: str) -> None:
    data = f'{name}\n["x", {{}}]'.encode()
    with pytest.raises(ValueError, match="not expected"):
        read(io.BytesIO(len(data).to_bytes(8, "big") + data), Batch, Started)


def test_a_cut_message_is_the_end() -> None:
    assert read(io.BytesIO(pack(Started(1))[:-1]), Started) is None
    assert read(io.BytesIO(b""), Started) is None


def test_a_process_that_has_ended_is_sent_nothing() -> None:
    """Whatever the event loop says of its pipe, that is an error of the connection."""

    async def write_until_it_is_known() -> None:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "", stdin=asyncio.subprocess.PIPE)
        await process.wait()
        assert process.stdin is not None
        process.stdin.transport.abort()
        for _ in range(100):
            await send(process.stdin, b"x" * 100_000)
            await asyncio.sleep(0)

    with pytest.raises(ConnectionError):
        uvloop.run(write_until_it_is_known())
