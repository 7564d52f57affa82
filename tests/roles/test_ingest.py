from __future__ import annotations

import socket

import pytest

from autoingest.roles.ingest import worker_name


@pytest.mark.parametrize("host", ["host:1", "", "fe80::1%eth0", "a b/c", "höst"])
def test_worker_name_holds_no_colon(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    assert set(worker_name()).isdisjoint(": /%ö")
    assert worker_name() != worker_name()
