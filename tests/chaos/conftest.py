"""The site of each scenario, and the summary of all."""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from autoingest.butler.create import create_repository
from testing.chaos import INGEST, Chaos, Outcome, PostgresServer, RedisServer
from testing.postgres import postgres_folder
from testing.s3server import S3Server
from testing.shots import BUCKET, take
from testing.site import Site
from testing.threads import in_thread

SCALES = {"short": (4, 24, 1), "full": (6, 205, 3)}
"""Exposures, images of each, and how often faults are repeated in a scenario."""

Open = Callable[..., Chaos]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("chaos") == "full":
        return
    folder = Path(__file__).parent
    left_out = [item for item in items if folder in item.path.parents and not item.get_closest_marker("short")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty repository to be copied."""
    folder = tmp_path_factory.mktemp("made") / "repo"
    create_repository(str(folder), cameras=["LSSTCam"])
    return folder


@pytest.fixture
def open_chaos(request: pytest.FixtureRequest, tmp_path: Path, made: Path) -> Iterator[Open]:
    """Make a site on a given repository (a copy of an empty one by default); nothing of it runs yet but its servers."""
    config = request.config
    seed = config.getoption("--chaos-seed")
    outcome = Outcome(request.node.name.removeprefix("test_"), random.randrange(10**6) if seed is None else seed)
    print(f"seed {outcome.seed}")
    started = time.monotonic()
    with ExitStack() as stack:

        def make(repo: str | None = None) -> Chaos:
            if repo is None:
                repo = str(shutil.copytree(made, tmp_path / "repo"))
            store, server = S3Server(), RedisServer(tmp_path / "valkey")
            url = stack.enter_context(in_thread(store.run()))
            store.buckets[BUCKET] = {}
            server.start()
            stack.callback(server.close)
            environment = {"S3_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
            site = Site(
                tmp_path, server.url, str(repo), [BUCKET], environment, INGEST,
                {"redis": {"url": server.url, "socketTimeout": 2}},
            )  # fmt: skip
            stack.enter_context(closing(site))
            exposures, detectors, repeat = SCALES[config.getoption("chaos")]
            return Chaos(tmp_path, made, take(exposures, detectors), outcome, server, store, site, repeat)

        yield make
    outcome.seconds = time.monotonic() - started
    request.node.user_properties.append(("chaos", outcome.properties()))


@pytest.fixture
def chaos(open_chaos: Open) -> Chaos:
    """A site on SQLite."""
    return open_chaos()


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    with postgres_folder() as folder:
        server = PostgresServer(folder)
        server.start()
        try:
            yield server
        finally:
            server.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for kind in terminalreporter.stats.values() for report in kind]
    outcomes = [
        outcome
        for report in reports
        if getattr(report, "when", "") == "teardown"
        for name, outcome in report.user_properties
        if name == "chaos"
    ]
    if not outcomes:
        return
    row = "{:<46} {:>7} {:>7} {:>6} {:>5} {:>8} {:>8}  {}".format
    write = terminalreporter.line
    terminalreporter.section("chaos")
    write(row("scenario", "seed", "faults", "sent", "lost", "doubled", "seconds", ""))
    total: Counter[str] = Counter()
    for item in outcomes:
        item["number"] = sum(item["faults"].values())
        numbers = {name: item[name] for name in ("number", "sent", "lost", "doubled", "seconds")}
        total.update(numbers)
        *counts, seconds = numbers.values()
        state = "" if item["passed"] else "NOT PASSED"
        write(row(item["name"], item["seed"], *counts, f"{seconds:.1f}", state))
        write("    " + ", ".join(f"{count} {name}" for name, count in item["faults"].items()))
    *sums, seconds = total.values()
    write(row(f"{len(outcomes)} scenarios", "", *sums, f"{seconds:.1f}", ""))
