from __future__ import annotations

import gzip
import math
import re
from pathlib import Path

import pytest
from astropy.io import fits
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from autoingest.errors import MetadataError
from autoingest.store.fits import parse_header, parse_headers
from testing.examples import number

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


@pytest.mark.parametrize("data", [b"", b"SIMPLE  =", bytes(2880), bytes(28800), b"\xff" * 2880, b" " * 2880])
def test_nothing_of_a_header(data: bytes) -> None:
    with pytest.raises(MetadataError, match=r"not a FITS file|truncated"):
        parse_headers(data, complete=True)


def test_compressed_as_a_whole() -> None:
    with pytest.raises(MetadataError, match="gzip"):
        parse_headers(gzip.compress(header_of().tostring().encode()), complete=False)


def cards_of(*cards: bytes) -> dict[str, object]:
    parsed = parse_header(b"".join(card.ljust(80) for card in (b"SIMPLE  =    T", *cards, b"END")).ljust(2880))
    assert parsed
    assert parsed[1] % 2880 == 0
    del parsed[0]["SIMPLE"]
    return parsed[0]


@pytest.mark.parametrize(
    ("card", "value"),
    [
        ("OBSERVER= 'María'".encode(), "Mar??a"),
        ("OBSERVER= 'Mar\xeda'".encode("latin-1"), "Mar?a"),
        ("AIRTEMP =  11.5 / °C".encode(), 11.5),
        (b"NAME    = 'a\0\0\0'", "a"),
        (b"NAME    = 'a\tb'", "a?b"),
        (b"NAME    = 'it''s / none'  / of it", "it's / none"),
        (b"NAME    = ''''", "'"),
        (b"NAME    = 'a''' 'b'", "a'"),
        (b"NAME    = ' a '", " a"),
        (b"NAME    = ''", ""),
        (b"NAME    = ", None),
        (b"NAME    =            / nothing", None),
        (b"NUMBER  = 1D5", 1e5),
        (b"NUMBER  = 1d5", 1e5),
        (b"NUMBER  = 1.5e-3", 1.5e-3),
        (b"NUMBER  = - 1.5", -1.5),
        (b"NUMBER  = +7", 7),
        (b"NUMBER  = 007", 7),
        (b"NUMBER  = 15.0 seconds", 15.0),
        (b"NUMBER  = 15 seconds / of it", 15),
        (b"NUMBER  = 20250101T000000", "20250101T000000"),
        (b"NUMBER  = 2025-01-01", "2025-01-01"),
        (b"NUMBER  = 99999999999999999999", "99999999999999999999"),
        (b"NUMBER  = 1E999", "1E999"),
        (b"NUMBER  = NaN / not a number", None),
        (b"NUMBER  = nan", None),
        (b"NUMBER  = -NAN", None),
        (b"NUMBER  = Infinity", None),
        (b"NUMBER  = -inf", None),
        (b"NUMBER  = 'NaN'", "NaN"),
        (b"NUMBER  = NANCY", "NANCY"),
        (b"FLAG    = T", True),
        (b"FLAG    = F comment", False),
        (b"FLAG    = TRUE", "TRUE"),
        (b"exptime = 15.0", 15.0),
        (b"SHORT= 5", 5),
        (b"HIERARCH ESO DET X = 'a = b'", "a = b"),
        (b"HIERARCH A=1.5", 1.5),
        (b"END-A   = 5", 5),
        (b"ENDING  = 5", 5),
    ],
    ids=repr,
)
def test_values(card: bytes, value: object) -> None:
    [(_, found)] = cards_of(card).items()
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    "card", [b"COMMENT = 5", b"HISTORY = 5", b"        = 5", b"NAME     5", b"HIERARCH no", b"= 5"]
)
def test_commentary(card: bytes) -> None:
    assert cards_of(card) == {}


def test_end_of_one_card_and_begin_of_the_next_are_no_end() -> None:
    assert cards_of(b"NAME    = 'x' /".ljust(77) + b"END", b"", b"AFTER   = 1") == {"NAME": "x", "AFTER": 1}


@pytest.mark.parametrize(
    ("cards", "value"),
    [
        ((b"A       = 'x&'", b"CONTINUE  'y&'", b"CONTINUE  'z' / comment"), "xyz"),
        ((b"A       = 'x&'", b"CONTINUE  'y&'"), "xy&"),
        ((b"A       = 'x&'",), "x&"),
        ((b"A       = 'x'", b"CONTINUE  'y'"), "x"),
        ((b"A       = 'x&'", b"CONTINUE  'y'", b"CONTINUE  'z'"), "xy"),
        ((b"A       = 'x&'", b"CONTINUE  12"), "x&"),
        ((b"A       = 5", b"CONTINUE  'y'"), 5),
        ((b"A       = 'x'&'", b"CONTINUE  ''y&'", b"CONTINUE  '' / of it"), "x'y"),
        ((b"A       = 'x&' 'y'", b"CONTINUE  'z'"), "xz"),
        ((b"CONTINUE  'y'", b"A       = 'x'"), "x"),
        ((b"A       = 'x&'", b"COMMENT", b"CONTINUE  'y'"), "x&"),
        ((b"A       = 'x  &'", b"CONTINUE  '''&'", b"CONTINUE  '  '"), "x  '"),
    ],
    ids=repr,
)
def test_continued_text(cards: tuple[bytes, ...], value: object) -> None:
    assert cards_of(*cards) == {"A": value}


def test_long_text_is_not_copied_for_each_piece() -> None:
    """With 32 MiB of pieces that would take minutes."""
    pieces = (b"CONTINUE  '" + b"y" * 60 + b"&'").ljust(80) * 400_000
    parsed = parse_header(b"A       = 'x&'".ljust(80) + pieces + b"END".ljust(80))
    assert parsed
    assert len(str(parsed[0]["A"])) == 24_000_002


CHARACTERS = st.characters(min_codepoint=32, max_codepoint=126)


def unambiguous(text: str) -> bool:
    """Tell whether no quote within a text looks like its end to astropy."""
    return not re.search(r"'[ /]", text)


WORDS = st.text(CHARACTERS, max_size=60).filter(unambiguous)
COMMENTS = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="'"), max_size=60)
"""Without quotes, which astropy may take for the end of the text before."""
VALUES = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    WORDS,
    st.text(CHARACTERS, min_size=60, max_size=300).filter(unambiguous),
    st.none(),
)
NAMES = st.from_regex(r"[A-Z0-9_-]{1,8}", fullmatch=True).filter(
    lambda name: name not in ("END", "COMMENT", "HISTORY", "CONTINUE", "SIMPLE", "HIERARCH", "XTENSION")
)


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=number(100), deadline=None, database=None)
@given(st.lists(st.tuples(st.one_of(NAMES, NAMES.map("HIERARCH ESO {} X".format)), VALUES, COMMENTS), max_size=12))
def test_same_as_astropy_on_whatever_it_writes(cards: list[tuple[str, object, str]]) -> None:
    header = header_of()
    for name, value, comment in cards:
        try:
            card = fits.Card(name, value, comment)
            str(card)
        except ValueError:
            continue
        header.append(card, end=True)
    data = header.tostring().encode()
    reference = expected(fits.Header.fromstring(data))
    parsed = parse_header(data)
    assert parsed
    assert {name: repr(value) for name, value in parsed[0].items()} == {k: repr(v) for k, v in reference.items()}
    assert parsed[1] == len(data)


RAW_VALUES = st.one_of(
    st.from_regex(
        r" {0,3}[+-]? ?[0-9]{0,4}\.?[0-9]{0,4}( ?[eEdD] ?[+-]?[0-9]{1,2})? {0,3}(/[ -~]{0,9})?", fullmatch=True
    ),
    st.from_regex(r" {0,3}'([ -&(-~]|''){0,50}' {0,3}(/[ -~]{0,10})?", fullmatch=True),
    st.from_regex(r"[ -~]{0,70}", fullmatch=True),
    st.text(max_size=60),
)


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=number(300), deadline=None, database=None)
@given(st.one_of(NAMES.map(lambda name: f"{name:8}= "), NAMES.map(lambda name: f"{name}= ")), RAW_VALUES)
def test_same_as_astropy_wherever_it_reads_a_value(name: str, text: str) -> None:
    card = (name + text).encode("utf-8", "replace")[:80].ljust(80)
    assume(all(32 <= byte != 127 for byte in card))
    if text.lstrip().startswith("'"):
        quoted = re.fullmatch(rb" *'(([^']|'')*)' *(/[^']*)?", card[len(name) :])
        assume(quoted and unambiguous(quoted[1].decode()))
    header = fits.Header.fromstring(card.decode("ascii", "replace").replace("\ufffd", "?"))
    try:
        reference = expected(header)
    except (fits.VerifyError, ValueError):
        return
    for value in reference.values():
        assume(not isinstance(value, complex))
        assume(not isinstance(value, float) or math.isfinite(value))
        assume(not isinstance(value, int) or -(2**63) <= value < 2**63)
    parsed = parse_header(card + b"END".ljust(80))
    assert parsed
    assert {name: repr(value) for name, value in parsed[0].items()} == {k: repr(v) for k, v in reference.items()}
