"""Make Ceph hold what a spec declares."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import AutoingestError
from . import policy
from .client import Gateway
from .desired import Finding, Step, Wanted, steps_of
from .plan import compare
from .state import State, read_state


async def apply(gateway: Gateway, wanted: Wanted, on_step: Callable[[Step], None] = lambda _: None) -> list[Finding]:
    """Take steps until nothing is left to do.

    After each phase Ceph is read again: nothing is removed before what replaces it has been seen to be there. Doing it
    again, also after an interruption, changes nothing more.

    Parameters
    ----------
    gateway
        Ceph.
    wanted
        What it is to hold.
    on_step
        Called after each step.

    Returns
    -------
    remaining
        What a person must decide, and notes.

    Raises
    ------
    AutoingestError
        As `Gateway` does; also if steps have been taken and Ceph reads as before.
    """
    before: list[Finding] = []
    while True:
        state = await read_state(gateway, wanted.spec)
        findings = compare(wanted, state)
        steps = steps_of(findings)
        if not steps:
            return findings
        if findings == before:
            differing = "; ".join(f"{item.where}: {item.wrong}" for item in findings if item.steps)
            raise AutoingestError(f"Ceph has taken the changes, but does not read back so: {differing}")
        arns = {name: topic.arn for name, topic in state.topics.items()}
        for step in (step for step in steps if step.phase == steps[0].phase):
            await _take(gateway, wanted, state, arns, step)
            on_step(step)
        before = findings


async def _take(gateway: Gateway, wanted: Wanted, state: State, arns: dict[str, str], step: Step) -> None:
    if step.kind == "write topic":
        (topic,) = (topic for topic in wanted.spec.topics if wanted.name(topic, state) == step.subject)
        arns[step.subject] = await gateway.write_topic(step.subject, wanted.attributes(topic))
        return
    if step.kind == "delete topic":
        await gateway.delete_topic(arns[step.subject])
        return
    (bucket,) = (bucket for bucket in wanted.spec.buckets if bucket.name == step.subject)
    match step.kind:
        case "create bucket":
            await gateway.create_bucket(bucket)
        case "subscribe":
            await gateway.subscribe(bucket, wanted.entries(bucket, state, arns))
        case "unsubscribe":
            await gateway.unsubscribe(bucket, step.id)
        case "write policy":
            await gateway.write_policy(bucket, policy.render(bucket))
        case "write ACL":
            await gateway.make_private(bucket)
