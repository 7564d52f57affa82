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
    from ..ceph.canary import Flight
    from ..ceph.client import Gateway
    from ..ceph.desired import Finding, Step, Wanted
    from ..ceph.spec import Spec

T = TypeVar("T")

CHANGES = 3
"""Exit code of ``plan --detailed-exitcode`` when there is something to change."""

CANARY_CODES = {"arrived": 0, "stalled": 3, "silent": 4, "refused": 5}
"""Exit codes of ``canary``; the highest of all buckets counts."""

CANARY_GRACE = 120.0
"""Seconds that ``canary`` may take beyond its waiting."""

spec_option = click.option(
    "--spec", "spec_file", required=True, type=click.Path(path_type=Path), help="YAML file of topics and buckets."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def ceph() -> None:
    """Tell a Ceph whom to notify and who may read, as a file declares it.

    Buckets are reached as `autoingest run` does: by the profile in profile@bucket, else by S3_ENDPOINT_URL and the AWS
    variables. A profile must hold the keys of the bucket's owner. Secrets of topics come from the environment variables
    that the file names, and are never printed.

    \b
    Example:
        autoingest ceph plan --spec ceph-summit.yaml
    """  # noqa: D301 - click's mark is a real backspace


@ceph.command()
@spec_option
@click.option("--force", is_flag=True, help="Plan to remove notifications that nobody declares, too.")
@click.option("--rotate", metavar="TOPIC", multiple=True, help="Plan a new name for this topic.")
@click.option("--detailed-exitcode", is_flag=True, help=f"Exit with {CHANGES} when there is something to change.")
@json_option
@timeout_option("10m")
def plan(spec_file: Path, force: bool, rotate: tuple[str, ...], detailed_exitcode: bool, as_json: bool) -> None:
    """Show what apply would change, and why; change nothing.

    \b
    Examples:
        autoingest ceph plan --spec ceph-summit.yaml
        autoingest ceph plan --spec ceph-summit.yaml --rotate rubin-summit
    """  # noqa: D301
    from ..ceph.desired import steps_of
    from ..ceph.spec import Spec

    findings = _with_gateway(Spec.from_file(spec_file), _compare, force, rotate)
    steps = steps_of(findings)
    if as_json:
        echo(json.dumps([_as_dict(finding) for finding in findings]))
    else:
        for step in steps:
            echo(f"{step}")
            for finding in findings:
                if finding.steps[:1] == (step,):
                    echo(f"    {finding.where}: {finding.wrong}")
        _print_undecided(findings)
        if not steps:
            echo("nothing to change")
    sys.exit(CHANGES if steps and detailed_exitcode else 0)


@ceph.command()
@spec_option
@json_option
@timeout_option("10m")
def diff(spec_file: Path, as_json: bool) -> None:
    """Show what is declared (+) against what is there (-); exit 1 if they differ.

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
@click.option("--force", is_flag=True, help="Remove notifications that nobody declares, too.")
@click.option("--rotate", metavar="TOPIC", multiple=True, help="Give this topic a new name, TOPIC-N: notify the new "
              "one, read that back, then delete the old one.")  # fmt: skip
@json_option
@timeout_option("10m")
def apply(spec_file: Path, force: bool, rotate: tuple[str, ...], as_json: bool) -> None:
    """Make Ceph hold what the file declares.

    Nothing is removed before what replaces it has been read back; some notifications may come twice. A second run
    changes nothing. Exits with 1 if notifications are left that nobody declares: name them under leave, or
    use --force.

    \b
    Examples:
        autoingest ceph apply --spec ceph-summit.yaml
        autoingest ceph apply --spec ceph-summit.yaml --rotate rubin-summit
    """  # noqa: D301
    from ..ceph.apply import apply as make_it_so
    from ..ceph.spec import Spec

    spec = Spec.from_file(spec_file)
    done = []

    def on_step(step: Step) -> None:
        done.append(str(step))
        if not as_json:
            echo(f"done: {step}")

    async def act(gateway: Gateway, wanted: Wanted) -> list[Finding]:
        return await make_it_so(gateway, wanted, on_step)

    findings = _with_gateway(spec, act, force, rotate)
    if as_json:
        echo(json.dumps({"done": done, "left": [_as_dict(finding) for finding in findings]}))
    else:
        _print_undecided(findings)
        echo(f"{len(done)} changes" if done else "nothing to change")
        if rotate:
            echo("what the old queue still held has gone with it: run autoingest reconcile")
        for name in rotate:
            if spec.topic(name).push_endpoint.startswith("kafka"):
                echo(f"who reads topic {name} from Kafka must now be told its new name")
    sys.exit(1 if any(not finding.note for finding in findings) else 0)


@ceph.command()
@spec_option
@click.option("--no-endpoints", is_flag=True, help="Do not ask the topics' endpoints whether they answer.")
@json_option
@timeout_option("10m")
def verify(spec_file: Path, no_endpoints: bool, as_json: bool) -> None:
    """Read everything back, and say what is wrong and what to do; exit 1 if anything is.

    Endpoints are asked from this machine, with a message that holds no records.

    \b
    Example:
        autoingest ceph verify --spec ceph-summit.yaml
    """  # noqa: D301
    from ..ceph.spec import Spec
    from ..ceph.verify import verify as look

    async def act(gateway: Gateway, wanted: Wanted) -> list[Finding]:
        return await look(gateway, wanted, endpoints=not no_endpoints)

    findings = _with_gateway(Spec.from_file(spec_file), act)
    wrong = [finding for finding in findings if not finding.note]
    if as_json:
        echo(json.dumps([_as_dict(finding) for finding in findings]))
    else:
        for finding in findings:
            echo(f"{'note' if finding.note else 'wrong'}: {finding.where}: {finding.wrong}")
            echo(f"    {finding.remedy}")
        if not wrong:
            echo("everything is as declared")
    sys.exit(1 if wrong else 0)


@ceph.command(context_settings={"show_default": True})
@spec_option
@click.option("--config", "config_file", required=True, type=click.Path(path_type=Path), help="Configuration of the "
              "site, which names Redis and the buckets.")  # fmt: skip
@click.option("--timeout", type=click.FloatRange(0, min_open=True), default=60.0, help="Seconds to wait. A new topic "
              "begins to deliver only after up to 30 s.")  # fmt: skip
@json_option
def canary(spec_file: Path, config_file: Path, timeout: float, as_json: bool) -> None:
    """Put empty objects into the buckets and time their notifications' way to Redis.

    There is one object for each notification. Its key holds .autoingest-canary/: role enqueue notes its arrival and
    queues nothing. The objects and the notes are removed afterwards. Exit codes: 0 all have arrived; 3 stalled, of a
    bucket's topics some are silent; 4 silence; 5 Ceph refuses the object, with 503 when a topic's queue is full; 2 a
    wrong configuration, or Ceph or Redis does not answer.

    \b
    Example:
        autoingest ceph canary --spec ceph-summit.yaml \\
            --config summit.yaml
    """  # noqa: D301
    from ..app.config import Config
    from ..ceph.canary import fly
    from ..ceph.spec import Spec
    from ..queue.connection import connect

    config = Config.from_file(config_file)

    async def act(gateway: Gateway, wanted: Wanted) -> list[Flight]:
        client = connect(config.redis)
        try:
            return await fly(gateway, client, wanted, config.buckets, timeout)
        finally:
            await client.aclose()

    flights = _with_gateway(Spec.from_file(spec_file), act, timeout=timeout + CANARY_GRACE)
    if not flights:
        raise click.UsageError(f"{spec_file} and {config_file} have no bucket in common that sends canaries")
    if as_json:
        echo(json.dumps([dataclasses.asdict(flight) for flight in flights]))
    else:
        for flight in flights:
            echo(f"{flight.bucket}: {flight.verdict}: {flight.message}")
            for name, seconds in flight.arrivals.items():
                echo(f"    {name}: {'not arrived' if seconds is None else f'{seconds:.3f} s'}")
    sys.exit(max(CANARY_CODES[flight.verdict] for flight in flights))


def _with_gateway(
    spec: Spec,
    act: Callable[[Gateway, Wanted], Awaitable[T]],
    force: bool = False,
    rotate: Sequence[str] = (),
    timeout: float | None = None,
) -> T:
    from ..ceph.client import Gateway

    async def work() -> T:
        async with Gateway.open(spec) as gateway:
            return await act(gateway, await _wanted(gateway, spec, force, rotate))

    return run(work(), timeout)


async def _wanted(gateway: Gateway, spec: Spec, force: bool, rotate: Sequence[str]) -> Wanted:
    from ..ceph.desired import Wanted, next_generation
    from ..ceph.state import read_state

    topics = [spec.topic(name) for name in rotate]
    generations = {}
    if topics:
        state = await read_state(gateway, spec)
        generations = {topic.name: next_generation(topic, state) for topic in topics}
    return Wanted(spec, spec.secrets(), generations, force)


async def _compare(gateway: Gateway, wanted: Wanted) -> list[Finding]:
    from ..ceph.plan import compare
    from ..ceph.state import read_state

    return compare(wanted, await read_state(gateway, wanted.spec))


def _print_undecided(findings: Sequence[Finding]) -> None:
    for finding in findings:
        if not finding.steps:
            echo(f"{'note' if finding.note else 'left'}: {finding.where}: {finding.wrong}; {finding.remedy}")


def _as_dict(finding: Finding) -> dict[str, object]:
    return {**dataclasses.asdict(finding), "steps": [str(step) for step in finding.steps]}
