from __future__ import annotations

from pathlib import Path

import pytest
from astropy.io import fits

from autoingest.errors import MetadataError
from autoingest.store.fits import parse_header, parse_headers

COMMENTARY = ("COMMENT", "HISTORY", "")


def expected(header: fits.Header) -> dict[str, object]:
    return {
        name: None if isinstance(value, fits.card.Undefined) else value
        for name, value in header.items()
        if name not in COMMENTARY
    }


def header_of(*cards: tuple[str, object]) -> fits.Header:
    header = fits.Header([("SIMPLE", True), ("BITPIX", 8), ("NAXIS", 0), ("EXTEND", True)])
    header.extend(cards)
    return header


def test_same_as_astropy_on_real_raws(shared_data: Path) -> None:
    files = sorted(shared_data.glob("raws/LSSTCam/*/*/*.fits"))
    assert len(files) == 4
    for file in files:
        data = file.read_bytes()
        parsed = parse_header(data)
        assert parsed is not None
        cards, end = parsed
        reference = expected(fits.Header.fromstring(data))
        assert {name: repr(value) for name, value in cards.items()} == {k: repr(v) for k, v in reference.items()}
        assert data[end : end + 8] in (b"XTENSION", b"")


@pytest.mark.filterwarnings("ignore::astropy.io.fits.verify.VerifyWarning")
def test_same_as_astropy_on_odd_cards() -> None:
    header = header_of(
        ("QUOTE", "it's / not a comment"), ("EMPTY", ""), ("UNDEF", None), ("NEGATIVE", -1.5e-7), ("BIG", 2**40),
        ("LONGSTR", "x" * 150 + "&'" * 20), ("HIERARCH SHUTTER.OPEN.SIDE", "PLUSX"), ("HIERARCH STUTTER ROWS", 0),
        ("NO", False), ("COMMENT", "a = 'b'"), ("HISTORY", "of it"),
    )  # fmt: skip
    data = header.tostring().encode()
    parsed = parse_header(data)
    assert parsed is not None
    assert parsed == (expected(header), len(data))


def test_fortran_exponent_and_last_of_two() -> None:
    cards = (b"SIMPLE  =    T", b"DARKTIME=   1.5D1 / s", b"EXPTIME =    15.", b"EXPTIME =    30.", b"END")
    parsed = parse_header(b"".join(card.ljust(80) for card in cards).ljust(2880))
    assert parsed == ({"SIMPLE": True, "DARKTIME": 15.0, "EXPTIME": 30.0}, 2880)


def test_extension_lies_over_an_empty_primary_only() -> None:
    extension = fits.ImageHDU(name="Segment10").header
    primary = header_of(("EXTNAME", "none"), ("OBSID", "x"))
    merged = parse_headers(primary.tostring().encode() + extension.tostring().encode(), complete=False)
    assert merged is not None
    assert (merged["EXTNAME"], merged["OBSID"], merged["XTENSION"]) == ("SEGMENT10", "x", "IMAGE")
    primary["NAXIS"] = 1
    primary["NAXIS1"] = 2880
    alone = parse_headers(primary.tostring().encode() + extension.tostring().encode(), complete=False)
    assert alone is not None
    assert alone["EXTNAME"] == "none"


def test_says_when_it_needs_more_and_when_there_is_no_more() -> None:
    primary = header_of().tostring().encode()
    extension = fits.ImageHDU().header.tostring().encode()
    for data in (primary[:160], primary, primary + extension[:160]):
        assert parse_headers(data, complete=False) is None
    assert parse_headers(primary, complete=True) is not None
    for data in (primary[:160], primary + extension[:160]):
        with pytest.raises(MetadataError, match="truncated"):
            parse_headers(data, complete=True)


@pytest.mark.parametrize("data", [b"", b"{}", b"\x89PNG", b"XTENSION= 'IMAGE   '"])
def test_not_fits(data: bytes) -> None:
    with pytest.raises(MetadataError, match="not a FITS file"):
        parse_headers(data, complete=True)


def test_binary_in_the_header() -> None:
    data = header_of().tostring().encode()
    with pytest.raises(MetadataError, match="ASCII"):
        parse_headers(data[:80] + b"\xff" * 80 + data[160:], complete=True)
