"""Comparison of found with expected values, and the table of all comparisons at the end of the run."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Protocol

import pytest

ANGLES = frozenset({"sky_angle", "boresight_rotation_angle"})
"""Degrees that are the same a whole turn apart."""

_MARKS = {True: "=", False: "#", None: "."}

PROPERTY = "conformance"
"""Name of the property by which a test's report tells its comparisons."""

Fields = dict[str, bool]
_table: dict[tuple[str, str], dict[str, Fields]] = defaultdict(dict)


class Compare(Protocol):
    def __call__(
        self, camera: str, header: str, part: str, found: Mapping[str, object], expected: Mapping[str, object]
    ) -> None: ...


def same(name: str, found: object, expected: object) -> bool:
    """Tell whether two values are the same: floats to 1e-9 relative, angles modulo a turn."""
    if isinstance(expected, list):
        return (
            isinstance(found, (list, tuple))
            and len(found) == len(expected)
            and all(same(name, *pair) for pair in zip(found, expected, strict=True))
        )
    if expected == "nan":
        return found == "nan" or (isinstance(found, float) and math.isnan(found))
    if isinstance(found, float) and isinstance(expected, (float, int)):
        if name in ANGLES:
            return math.isclose((found - expected + 180) % 360, 180, abs_tol=1e-7)
        return math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-12)
    return found == expected


@pytest.fixture
def compare(request: pytest.FixtureRequest) -> Compare:
    """Compare field by field, note the result for the table, and fail if anything differs."""

    def run(camera: str, header: str, part: str, found: Mapping[str, object], expected: Mapping[str, object]) -> None:
        fields = {name: same(name, found.get(name), value) for name, value in expected.items()}
        request.node.user_properties.append((PROPERTY, (camera, header, part, fields)))
        different = {name: (found.get(name), expected[name]) for name, equal in fields.items() if not equal}
        assert not different

    return run


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Collect the comparisons of a test, in whichever process it ran."""
    if report.when == "call":
        for name, value in report.user_properties:
            if name == PROPERTY:
                assert isinstance(value, (tuple, list))
                camera, header, part, fields = value
                _table[camera, header][part] = fields


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print camera x header x field: a row for each header, a mark for each field in order."""
    if not _table:
        return
    write = terminalreporter.write_line
    terminalreporter.section("conformance: camera x header x field, equal (=), not (#), not expected (.)")
    parts: dict[str, list[str]] = defaultdict(list)
    for row in _table.values():
        for part, fields in row.items():
            parts[part] += [name for name in fields if name not in parts[part]]
    for part, names in parts.items():
        write(f"{part}: {' '.join(names)}")
    for (camera, header), row in sorted(_table.items()):
        cells = {part: "".join(_MARKS[row.get(part, {}).get(name)] for name in names) for part, names in parts.items()}
        different = [f"{part}.{name}" for part in row for name, equal in row[part].items() if not equal]
        write(" ".join((f"{camera:<17} {header:<60}", *cells.values(), *different)))
    results = [equal for row in _table.values() for fields in row.values() for equal in fields.values()]
    write(f"{len(results)} fields of {len(_table)} headers, {results.count(False)} different")
