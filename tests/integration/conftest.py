"""Servers of the integration tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from testing.ceph import Ceph, run_ceph


@pytest.fixture(scope="session")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ceph]:
    """A real Ceph; the first test that asks for it on a machine installs its packages."""
    with run_ceph(tmp_path_factory.mktemp("ceph")) as ceph:
        yield ceph
