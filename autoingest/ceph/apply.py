"""Change Ceph until it matches a specification."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import AutoingestError
from . import policy
from .client import Gateway
from .desired import DesiredState, Finding, Step, ordered_steps
from .plan import compare
from .state import ActualState, read_state


async def apply(
    gateway: Gateway, desired: DesiredState, on_step: Callable[[Step], None] = lambda _: None
) -> list[Finding]:
    """Change Ceph until it matches the desired state.

    After each phase Ceph is read again, so that nothing is removed before its replacement has been read back. Running
    this again is safe, also after an interruption.

    Parameters
    ----------
    gateway
        Ceph.
    desired
        State that Ceph should have.
    on_step
        Called after each step.

    Returns
    -------
    remaining
        Findings that a person must decide on, and notes.

    Raises
    ------
    AutoingestError
        As `Gateway` does; also if Ceph accepted the changes but reads back the same as before.
    """
    before: list[Finding] = []
    while True:
        state = await read_state(gateway, desired.spec)
        findings = compare(desired, state)
        steps = ordered_steps(findings)
        if not steps:
            return findings
        if findings == before:
            differing = "; ".join(f"{item.where}: {item.wrong}" for item in findings if item.steps)
            raise AutoingestError(
                f"Ceph accepted the changes, but they don't show when it is read back: {differing}; run diff, and look "
                "whether somebody else changes the same topics or buckets"
            )
        arns = {name: topic.arn for name, topic in state.topics.items()}
        for step in (step for step in steps if step.phase == steps[0].phase):
            await _take(gateway, desired, state, arns, step)
            on_step(step)
        before = findings


async def _take(gateway: Gateway, desired: DesiredState, state: ActualState, arns: dict[str, str], step: Step) -> None:
    if step.kind == "write topic":
        (topic,) = (topic for topic in desired.spec.topics if desired.name(topic, state) == step.subject)
        arns[step.subject] = await gateway.write_topic(step.subject, desired.attributes(topic))
        return
    if step.kind == "delete topic":
        await gateway.delete_topic(arns[step.subject])
        return
    (bucket,) = (bucket for bucket in desired.spec.buckets if bucket.name == step.subject)
    match step.kind:
        case "create bucket":
            await gateway.create_bucket(bucket)
        case "subscribe":
            await gateway.subscribe(bucket, desired.entries(bucket, state, arns))
        case "unsubscribe":
            await gateway.unsubscribe(bucket, step.id)
        case "write policy":
            await gateway.write_policy(bucket, policy.render(bucket))
        case "write ACL":
            await gateway.make_private(bucket)
