from __future__ import annotations

from autoingest.app.config import Config
from autoingest.app.descriptors import LEAST, fit

CONFIG = Config.from_dict({"buckets": ["b"], "ingest": {"repo": "r"}}, "test")


def numbers(config: Config) -> list[int]:
    listens = (config.admin.listen, config.enqueue.listen, config.presence.listen)
    return [listen.max_connections for listen in listens if listen]


def test_nothing_changes_where_there_are_enough() -> None:
    for limit in (1_000_000, -1):
        assert fit(CONFIG, ["enqueue", "ingest", "idle", "presence"], limit) is CONFIG


def test_listeners_share_what_there_is() -> None:
    found = numbers(fit(CONFIG, ["enqueue", "presence"], 1024))
    assert 800 < sum(found) <= 1024 - 128
    assert min(found) > 150
    assert numbers(fit(CONFIG, ["enqueue"], 1024))[2] == numbers(CONFIG)[2]


def test_each_keeps_some() -> None:
    assert numbers(fit(CONFIG, ["enqueue", "presence"], 100)) == [LEAST] * 3
