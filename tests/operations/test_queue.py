"""``autoingest queue`` and ``autoingest audit`` on the command line."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from autoingest.errors import PermanentError
from autoingest.queue.dead_letters import REASONS
from testing.exposures import DAY_OBS, obs_id

from .conftest import Site


def _letter(site: Site, path: str, reason: str = "missing", age: float = 0.0) -> str:
    path = f"{site.bucket}/LSSTCam/20250714/MC_O_20250714_000001/{path}"
    last = time.time() - age
    letter = {
        "path": path, "reason": reason, "exception": f"{reason} it is", "attempts": 3, "first_time": last - 9,
        "last_time": last, "worker": "w1", "etag": "e1",
    }  # fmt: skip
    site.redis.hset(f"DEAD:{site.bucket}", path, json.dumps(letter))
    site.redis.hset(f"FILE:{path}", mapping={"state": "dead", "ing_fail_count": 3})
    return path


def test_dead_letters(site: Site) -> None:
    paths = [_letter(site, "a.fits"), _letter(site, "b.fits", "metadata"), _letter(site, "c.fits", age=7200)]
    status = site.json("queue status")
    assert status[site.bucket]["dead"] == 3
    assert site.bucket in site.run("queue status")
    letters = site.json("queue dead")
    assert [letter["path"] for letter in letters] == [paths[2], *paths[:2]], "in order of the last failure"
    assert letters[1]["exception"] == "missing it is"
    text = site.run("queue dead", "--reason", "metadata")
    assert "metadata it is" in text
    assert "3 attempts" in text
    assert "last by w1, etag e1" in text
    assert paths[0] not in text

    assert "select records with" in site.run("queue requeue", code=2)
    assert site.json("queue requeue", "--older", "1h") == {"requeued": [paths[2]], "left": {}}
    assert site.queued == [paths[2]]
    assert site.json("queue requeue", paths[1], paths[2], code=1)["left"] == {paths[2]: "not dead, or not selected"}
    assert site.queued == [paths[2], paths[1]]
    site.run("queue drop", "--all", code=1)
    assert site.redis.hlen(f"DEAD:{site.bucket}") == 1, "nobody said yes"
    assert site.json("queue drop", "--all", "--yes") == {"dropped": 1}
    report = site.json("audit", code=1)
    assert report["consistent"]
    warning = f"{site.bucket}: nobody takes from its queue"
    assert report["warnings"] == [warning], "nothing is lost, but no worker runs, and whoever is on call must see that"
    assert report["counts"][site.bucket] | {"queued": 2, "dropped": 1} == report["counts"][site.bucket]


def test_rejected_records_that_can_be_used_now(site: Site) -> None:
    good = "LSSTCam/20250714/MC_O_20250714_000001/MC_O_20250714_000001_R22_S11.fits"

    def reject(bucket: str, key: str) -> None:
        content = {"key": key, "reason": "bucket is not configured", "event": None, "count": 2, "first_time": 1.0,
                   "last_time": 2.0}  # fmt: skip
        site.redis.hset(f"REJECTED:{bucket}", key, json.dumps(content))

    reject("-", f"{site.bucket}/{good}")
    reject("-", f"elsewhere/{good}")
    reject(site.bucket, "a.fits")
    assert len(site.json("queue rejected")) == 3
    assert "2 times" in site.run("queue rejected", "--reason", "configured")
    answer = site.json("queue requeue", "--rejected", "--all", code=1)
    assert answer["requeued"] == site.queued == [f"{site.bucket}/{good}"]
    assert answer["left"] == {
        f"-/elsewhere/{good}": "bucket 'elsewhere' is not configured",
        f"{site.bucket}/a.fits": "key has 1 components, not the 4 of instrument/day_obs/obs_id/file",
    }
    assert site.redis.hkeys("REJECTED:-") == [f"elsewhere/{good}"]
    assert site.json("queue drop", "--rejected", "--bucket", site.bucket, "--yes") == {"dropped": 1}
    assert site.redis.hkeys("REJECTED:-") == [f"elsewhere/{good}"]


def test_unknown_reason_is_refused_with_those_that_there_are(site: Site) -> None:
    for command in ("queue dead", "queue requeue", "queue drop"):
        text = site.run(command, "--reason", "metdata", code=2)
        assert "'metdata' is not a reason" in text
        assert all(reason in text for reason in REASONS)
    assert site.json("queue rejected", "--reason", "any part") == []


def test_reasons_are_those_of_errors_and_of_the_documentation() -> None:
    errors: set[type[PermanentError]] = {PermanentError, *PermanentError.__subclasses__()}
    assert {error.reason for error in errors} <= set(REASONS)
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    table = page.partition("| reason | what to do |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `([a-z-]+)` ", table, re.MULTILINE)) == set(REASONS)


def test_acts_are_in_the_operators_log(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOINGEST_OPERATOR", "ada")
    files = site.files(1, range(2))
    site.put(files)
    good = files[0].path.partition("/")[2]
    content = {"key": good, "reason": "why", "event": None, "count": 2, "first_time": 1.0, "last_time": 2.0}
    site.redis.hset(f"REJECTED:{site.bucket}", good, json.dumps(content))
    site.run("queue requeue", "--rejected", "--all")
    site.run("trigger", obs_id(1), "--dry-run")
    site.run("trigger", obs_id(1))
    site.redis.delete(f"QUEUE:{site.bucket}", *(f"FILE:{file.path}" for file in files))
    site.run("reconcile", "--day", str(DAY_OBS), "--grace", "0s", "--heal")
    site.redis.set(f"SITE:{site.bucket}", "/elsewhere")
    site.run("queue site", "--take", "--yes")
    acts = site.json("log")
    assert [(act["act"], act["number"], act["paths"]) for act in acts] == [
        ("requeued rejected records", "1", good),
        ("triggered", "1", files[1].path),
        ("healed", "1", obs_id(1)),
        ("took over the queue", "0", ""),
    ]
    assert all(act["who"].startswith("ada@") for act in acts)
    assert [act["why"] for act in acts[1:]] == [
        obs_id(1), "2 files and visits of these exposures", f"for {site.repo}",
    ]  # fmt: skip


def test_odd_letters_are_shown_as_they_are(site: Site) -> None:
    """Whatever somebody wrote there, each can be listed, put back on the queue and dropped."""
    odd: dict[Any, Any] = {
        "none": "no JSON at all",
        "list": "[1, 2]",
        "text": '"text"',
        "numbers": '{"reason": 5, "exception": null, "attempts": "x", "first_time": -1, "last_time": 1e300}',
        "escape": '{"reason": "failed", "exception": "red: \\u001b[31m\\nsecond line", "attempts": 2, "last_time": 5}',
        "bytes": b"\xff\xfe\x00",
        b"path \xff\x1b": "{}",
        "": "{}",
        "empty": "",
    }
    site.redis.hset(f"DEAD:{site.bucket}", mapping=odd)
    site.redis.hset(f"REJECTED:{site.bucket}", mapping=odd)
    for command in ("queue dead", "queue rejected"):
        text = site.run(command)
        assert "\x1b" not in text
        assert all(
            word in text for word in ("no JSON at all", "[1, 2]", r"red: \x1b[31m", "second line", f"{len(odd)} ")
        )
        assert len(site.json(command)) == len(odd)
    assert site.json("queue status")[site.bucket]["dead"] == len(odd)
    assert len(site.json("queue requeue", "--reason", "failed")["requeued"]) == 1
    assert site.json("queue drop", "none", "--yes")["dropped"] == 1
    assert len(site.json("queue requeue", "--all")["requeued"]) == len(odd) - 2
    assert site.json("queue drop", "--rejected", "--all", "--yes") == {"dropped": len(odd)}


def test_a_hash_of_letters_of_the_wrong_type(site: Site) -> None:
    site.redis.set(f"DEAD:{site.bucket}", "text")
    site.redis.lpush(f"REJECTED:{site.bucket}", "text")
    assert "WRONGTYPE" in site.run("queue dead", code=2)
    assert "WRONGTYPE" in site.run("queue rejected", code=2)


def test_audit_tells_and_exits(site: Site) -> None:
    path = _letter(site, "a.fits")
    assert "Every object is in exactly one place" in site.run("audit")
    site.redis.lpush(f"QUEUE:{site.bucket}", path)
    text = site.run("audit", code=1)
    assert f"{path}: in more than one place: its record says dead, it is queued, dead" in text
    assert site.json("audit", code=1)["findings"] == [
        {"path": path, "problem": "twice", "state": "dead", "places": ["queued", "dead"]}
    ]


def test_whose_queue_it_is(site: Site) -> None:
    """What would fill another repository's queue is refused, until this one takes it over."""
    assert "nobody has taken from it yet" in site.run("queue site")
    site.redis.set(f"SITE:{site.bucket}", "s3://elsewhere")
    assert "s3://elsewhere" in site.run("queue site", code=1)
    for command in (["trigger", "MC_O_20251231_000010"], ["reconcile", "--day", "20251231", "--heal"]):
        error = site.run(*command, code=2)
        assert "s3://elsewhere" in error
        assert site.repo in error
    assert site.json("queue site", "--take", "--yes") == {site.bucket: site.repo}
    assert site.run("queue site") == f"{site.bucket}: {site.repo}\n"


def test_paths_of_any_bytes_are_listed_requeued_and_dropped(site: Site, valkey_url: str) -> None:
    odd = [b"", b"\xff\xfe/x", b"\x1b[2J\n", b"y" * 5000, "é".encode()]
    letter = '{"reason": "unknown", "exception": "no object", "last_time": 1.0}'
    for path in odd:
        site.redis.hset(f"DEAD:{site.bucket}", path, letter)
    site.redis.hset(f"DEAD:{site.bucket}", "no JSON", b"\xff{")
    shown = {item["path"]: item for item in site.json("queue dead")}
    assert set(shown) == {"", r"\xff\xfe/x", r"\x1b[2J\n", "y" * 1200 + "...", "é", "no JSON"}
    assert shown["no JSON"]["exception"] == r"\xff{"
    text = site.run("queue dead")
    assert "\x1b" not in text
    assert "(empty path)" in text
    report = site.json("audit")
    assert (report["counts"][site.bucket]["dead"], report["findings"]) == (6, [])
    assert set(site.json("queue requeue", "", r"\xff\xfe/x")["requeued"]) == {"", r"\xff\xfe/x"}
    raw = redis.Redis.from_url(valkey_url)
    assert set(raw.lrange(f"QUEUE:{site.bucket}", 0, -1)) == {b"", b"\xff\xfe/x"}
    assert site.json("queue drop", "--yes", "--all")["dropped"] == 4
    assert raw.hlen(f"DEAD:{site.bucket}") == 0
    raw.close()
