from __future__ import annotations

from autoingest.model.text import MAX_EXCEPTION, exception_text


def test_long_exception_keeps_its_beginning_and_end() -> None:
    text = exception_text("begin" + "x" * 2 * MAX_EXCEPTION + "end")
    assert text.startswith("beginx")
    assert text.endswith("xend")
    assert f"({MAX_EXCEPTION + 8} characters left out)" in text
    assert len(text) < MAX_EXCEPTION + 50


def test_exception_that_is_not_unicode_becomes_text() -> None:
    assert exception_text("bad \udc80 byte") == r"bad \udc80 byte"
    assert exception_text("short") == "short"
