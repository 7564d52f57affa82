"""``autoingest ceph``."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from .limits import run, timeout_option
from .output import echo

if TYPE_CHECKING:
    from ..ceph.canary import CanaryResult
    from ..ceph.client import Gateway
    from ..ceph.desired import DesiredState, Finding, Step
    from ..ceph.spec import Spec

T = TypeVar("T")

CHANGES = 3
"""Exit code of ``plan --detailed-exitcode`` when there is something to change."""

CANARY_CODES = {"arrived": 0, "stalled": 3, "silent": 4, "refused": 5}
"""Exit codes of ``canary``; the highest of all buckets counts."""

CANARY_GRACE = 120.0
"""Seconds that ``canary`` may take beyond its ``--timeout``, to clean up."""

spec_option = click.option(
    "--spec", "spec_file", required=True, type=click.Path(path_type=Path), help="YAML file of topics and buckets."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def ceph() -> None:
    """Configure Ceph's notifications and bucket policies from a file.

    Credentials come from the same environment variables as for `autoingest run`: LSST_RESOURCES_S3_PROFILE_<profile>
    for profile@bucket, else S3_ENDPOINT_URL and the AWS variables. A profile must have the keys of the bucket's owner.
    Secrets of topics come from the environment variables that the file names, and are never printed.

    \b
    Example:
        autoingest ceph plan --spec ceph-summit.yaml
    """  # noqa: D301 - click's mark is a real backspace


@ceph.command()
@spec_option
@click.option("--force", is_flag=True, help="Also plan to remove undeclared notifications.")
@click.option("--rotate", metavar="TOPIC", multiple=True, help="Also plan to give this topic a new name.")
@click.option("--detailed-exitcode", is_flag=True, help=f"Exit with {CHANGES} when there is something to change.")
@json_option
@timeout_option("10m")
def plan(spec_file: Path, force: bool, rotate: tuple[str, ...], detailed_exitcode: bool, as_json: bool) -> None:
    """Show what apply would change and why, without changing anything.

    \b
    Examples:
        autoingest ceph plan --spec ceph-summit.yaml
        autoingest ceph plan --spec ceph-summit.yaml --rotate rubin-summit
    """  # noqa: D301
    from ..ceph.desired import ordered_steps
    from ..ceph.spec import Spec

    findings = _with_gateway(Spec.from_file(spec_file), _compare, force, rotate)
    steps = ordered_steps(findings)
    if as_json:
        echo(json.dumps([_as_dict(finding) for finding in findings]))
    else:
        for step in steps:
            echo(f"{step}")
            for finding in findings:
                if finding.steps[:1] == (step,):
                    echo(f"    {finding.where}: {finding.wrong}")
        _print_without_steps(findings)
        if not steps:
            echo("nothing to change")
    sys.exit(CHANGES if steps and detailed_exitcode else 0)


@ceph.command()
@spec_option
@json_option
@timeout_option("10m")
def diff(spec_file: Path, as_json: bool) -> None:
    """Compare the file (+) with what Ceph has (-); exit with 1 if they differ.

    \b
    Example:
        autoingest ceph diff --spec ceph-summit.yaml
    """  # noqa: D301
    from ..ceph.spec import Spec

    findings = [finding for finding in _with_gateway(Spec.from_file(spec_file), _compare) if not finding.note]
    if as_json:
        echo(json.dumps([_as_dict(finding) for finding in findings]))
    else:
        for finding in findings:
            echo(finding.where)
            for mark, text in (("-", finding.actual), ("+", finding.declared)):
                for line in text.splitlines():
                    echo(f"  {mark} {line}")
    sys.exit(1 if findings else 0)


@ceph.command()
@spec_option
@click.option("--force", is_flag=True, help="Also remove undeclared notifications.")
@click.option("--rotate", metavar="TOPIC", multiple=True, help="Replace this topic by a new one named TOPIC-N: create "
              "it, notify it, read that back, then delete the old one.")  # fmt: skip
@json_option
@timeout_option("10m")
def apply(spec_file: Path, force: bool, rotate: tuple[str, ...], as_json: bool) -> None:
    """Change Ceph to match the file.

    Nothing is removed before its replacement has been read back; some notifications may arrive twice. It is safe to run
    this again. Exits with 1 if undeclared notifications remain: list them under leave in the file, or use --force.

    \b
    Examples:
        autoingest ceph apply --spec ceph-summit.yaml
        autoingest ceph apply --spec ceph-summit.yaml --rotate rubin-summit
    """  # noqa: D301
    from ..ceph.apply import apply as apply_changes
    from ..ceph.spec import Spec

    spec = Spec.from_file(spec_file)
    done = []

    def on_step(step: Step) -> None:
        done.append(str(step))
        if not as_json:
            echo(f"done: {step}")

    async def act(gateway: Gateway, desired: DesiredState) -> list[Finding]:
        return await apply_changes(gateway, desired, on_step)

    findings = _with_gateway(spec, act, force, rotate)
    if as_json:
        echo(json.dumps({"done": done, "left": [_as_dict(finding) for finding in findings]}))
    else:
        _print_without_steps(findings)
        echo(f"{len(done)} changes" if done else "nothing to change")
        if rotate:
            echo(
                "notifications that the old topic had not delivered are lost: run autoingest reconcile --heal to queue "
                "their images"
            )
        for name in rotate:
            if spec.topic(name).push_endpoint.startswith("kafka"):
                echo(f"configure the new name of topic {name} wherever it is read from Kafka")
    sys.exit(1 if any(not finding.note for finding in findings) else 0)


@ceph.command()
@spec_option
@click.option("--no-endpoints", is_flag=True, help="Don't check whether the topics' endpoints answer.")
@json_option
@timeout_option("10m")
def verify(spec_file: Path, no_endpoints: bool, as_json: bool) -> None:
    """Check Ceph against the file, say what is wrong and what to do; exit with 1 if anything is wrong.

    The topics' endpoints are checked from this machine with a message without records.

    \b
    Example:
        autoingest ceph verify --spec ceph-summit.yaml
    """  # noqa: D301
    from ..ceph.spec import Spec
    from ..ceph.verify import verify as find_problems

    async def act(gateway: Gateway, desired: DesiredState) -> list[Finding]:
        return await find_problems(gateway, desired, endpoints=not no_endpoints)

    findings = _with_gateway(Spec.from_file(spec_file), act)
    wrong = [finding for finding in findings if not finding.note]
    if as_json:
        echo(json.dumps([_as_dict(finding) for finding in findings]))
    else:
        for finding in findings:
            echo(f"{'note' if finding.note else 'wrong'}: {finding.where}: {finding.wrong}")
            echo(f"    {finding.remedy}")
        if not wrong:
            echo("Ceph matches the file")
    sys.exit(1 if wrong else 0)


@ceph.command(context_settings={"show_default": True})
@spec_option
@click.option("--config", "config_file", required=True, type=click.Path(path_type=Path), help="Configuration file of "
              "the site, for its Redis and buckets.")  # fmt: skip
@click.option("--timeout", type=click.FloatRange(0, min_open=True), default=60.0, help="Seconds to wait. A new "
              "persistent topic needs up to 30 s before it delivers.")  # fmt: skip
@json_option
def canary(spec_file: Path, config_file: Path, timeout: float, as_json: bool) -> None:
    """Send test objects, and measure how long their notifications take to reach Redis.

    Puts one empty object for each notification into the buckets, with .autoingest-canary/ in its key: role enqueue
    records its arrival and queues nothing. Objects and records are removed afterwards.

    \b
    Exit codes:
        0  all notifications arrived
        2  wrong configuration, or Ceph or Redis does not answer
        3  stalled: only some of a bucket's notifications arrived
        4  silent: no notification of a bucket arrived
        5  refused: Ceph refuses the object (503: a topic's queue is full)

    \b
    Example:
        autoingest ceph canary --spec ceph-summit.yaml \\
            --config summit.yaml
    """  # noqa: D301
    from ..app.config import Config
    from ..ceph.canary import send_canaries
    from ..ceph.spec import Spec
    from ..queue.connection import connect

    config = Config.from_file(config_file)

    async def act(gateway: Gateway, desired: DesiredState) -> list[CanaryResult]:
        client = connect(config.redis)
        try:
            return await send_canaries(gateway, client, desired, config.buckets, timeout)
        finally:
            await client.aclose()

    results = _with_gateway(Spec.from_file(spec_file), act, timeout=timeout + CANARY_GRACE)
    if not results:
        raise click.UsageError(
            f"{spec_file} and {config_file} have no bucket in common whose topics have `canary: true`"
        )
    if as_json:
        echo(json.dumps([dataclasses.asdict(result) for result in results]))
    else:
        for result in results:
            echo(f"{result.bucket}: {result.verdict}: {result.message}")
            for name, seconds in result.arrivals.items():
                echo(f"    {name}: {'not arrived' if seconds is None else f'arrived after {seconds:.3f} s'}")
    sys.exit(max(CANARY_CODES[result.verdict] for result in results))


def _with_gateway(
    spec: Spec,
    act: Callable[[Gateway, DesiredState], Awaitable[T]],
    force: bool = False,
    rotate: Sequence[str] = (),
    timeout: float | None = None,
) -> T:
    from ..ceph.client import Gateway

    async def work() -> T:
        async with Gateway.open(spec) as gateway:
            return await act(gateway, await _desired_state(gateway, spec, force, rotate))

    return run(work(), timeout)


async def _desired_state(gateway: Gateway, spec: Spec, force: bool, rotate: Sequence[str]) -> DesiredState:
    from ..ceph.desired import DesiredState, next_generation
    from ..ceph.state import read_state

    topics = [spec.topic(name) for name in rotate]
    generations = {}
    if topics:
        state = await read_state(gateway, spec)
        generations = {topic.name: next_generation(topic, state) for topic in topics}
    return DesiredState(spec, spec.secrets(), generations, force)


async def _compare(gateway: Gateway, desired: DesiredState) -> list[Finding]:
    from ..ceph.plan import compare
    from ..ceph.state import read_state

    return compare(desired, await read_state(gateway, desired.spec))


def _print_without_steps(findings: Sequence[Finding]) -> None:
    for finding in findings:
        if not finding.steps:
            echo(f"{'note' if finding.note else 'left alone'}: {finding.where}: {finding.wrong}; {finding.remedy}")


def _as_dict(finding: Finding) -> dict[str, object]:
    return {**dataclasses.asdict(finding), "steps": [str(step) for step in finding.steps]}
