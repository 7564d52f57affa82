"""Isolates files that kill the Butler process.

When a process ends, the file that it was working on is a suspect; if it worked on several, all files of the batch are.
Suspects are written after all other files: first in small groups, then each alone, which is its trial. A process that
ends by itself during a trial makes the file fail; one that was killed from outside does not, until that has happened
many times in a row.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ..app.retry import Backoff
from ..butler.process import ButlerEndedError
from ..queue.scripts import TRUSTED
from ..queue.work import WorkQueue
from .batch import BatchFile
from .outcomes import Outcomes

ALONE = TRUSTED + 2
"""Tries from which a file is written alone; with fewer, but more than `TRUSTED`, it is written in a group."""

GROUP_SIZE = 16
"""Suspects that are written together."""

MAX_TRIALS = 10
"""Trials in a row during which the process was killed from outside, after which a file is given up."""

TRIAL_SPREAD = 1.0
"""Seconds within which a repeated trial begins, at random: something that kills each process as soon as it is ready
then hits a process without work."""

LONGEST_WAIT = 60.0
"""Longest time in seconds that a suspect waits for its next trial."""


class TrialCancelledError(Exception):
    """A file's trial does not take place: the file has been given up, or is no longer this worker's."""


@dataclass(frozen=True, slots=True)
class WriteGroup:
    """Files that are written to the Butler in one call."""

    files: list[BatchFile]
    suspected: bool
    alone: bool
    """Whether this is the trial of a single file."""

    def time_limit(self, batch_timeout: float) -> float:
        """Return the seconds that the call may take.

        Suspects get less time at first, as others may be waiting behind a file that takes too long.
        """
        return batch_timeout / (4 if self.suspected and self.files[0].claim.tries <= ALONE else 1)


def write_groups(files: Iterable[BatchFile]) -> list[WriteGroup]:
    """Divide files by their tries: trusted ones together, then suspects in groups, then those written alone."""
    trusted: list[BatchFile] = []
    suspects: list[BatchFile] = []
    alone: list[BatchFile] = []
    for file in sorted(files, key=lambda file: file.claim.tries):
        tries = file.claim.tries
        (trusted if tries <= TRUSTED else suspects if tries < ALONE else alone).append(file)
    return [
        *([WriteGroup(trusted, suspected=False, alone=False)] if trusted else []),
        *(
            WriteGroup(suspects[first : first + GROUP_SIZE], suspected=True, alone=False)
            for first in range(0, len(suspects), GROUP_SIZE)
        ),
        *(WriteGroup([file], suspected=True, alone=True) for file in alone),
    ]


class Suspects:
    """Counts what the suspects of one worker do to Butler processes, and decides about them.

    Parameters
    ----------
    queue
        The worker's queue, which keeps the counts.
    outcomes
        Moves files to their next state.
    batch_timeout
        Seconds that the Butler may take for a batch.
    """

    def __init__(self, queue: WorkQueue, outcomes: Outcomes, batch_timeout: float) -> None:
        self._queue = queue
        self._outcomes = outcomes
        self._batch_timeout = batch_timeout

    async def suspect(self, files: Sequence[BatchFile], least: int = 0) -> list[BatchFile]:
        """Count one more try of these files without outcome, `least` at least; return those that are still held."""
        numbers = await self._queue.count_process_ends([file.claim for file in files], least)
        for file, number in zip(files, numbers, strict=True):
            file.claim = replace(file.claim, tries=number)
        return [file for file in files if file.claim.tries]

    async def begin_trial(self, file: BatchFile) -> None:
        """Count that a file is now written alone.

        Raises
        ------
        TrialCancelledError
            If the file is given up, or no longer this worker's.
        """
        number = await self._queue.on_trial(file.claim)
        if number > MAX_TRIALS:
            await self._outcomes.give_up(
                file.claim, "crash",
                f"{MAX_TRIALS} times in a row, the Butler process was killed while it wrote this file alone, perhaps by"
                " the kernel for lack of memory",
            )  # fmt: skip
        if not 0 < number <= MAX_TRIALS:
            raise TrialCancelledError
        if number > 1:
            await asyncio.sleep(random.uniform(0, TRIAL_SPREAD))  # noqa: S311 - no cryptography

    async def process_ended(self, group: WriteGroup, error: ButlerEndedError) -> bool:
        """Decide about files that were being written when the process ended.

        A trial counts as a failure of its file only if the process ended by itself. If it was killed from outside, or
        did not even report how far it had got, the file is tried again later.

        Returns
        -------
        decided
            Whether the group is dealt with; otherwise its files, as far as they are still this worker's, carry the
            error and are to be written again.
        """
        if group.alone:
            [file] = group.files
            limit = group.time_limit(self._batch_timeout)
            if not error.own_doing:
                await self.defer(file, on_trial=not error.too_long)
                return True
            if not (error.too_long and limit < self._batch_timeout):
                await self._outcomes.fail(file.claim, "crash", f"{error}\n{error.last_words}".strip())
                return True
        culprits = [file for file in group.files if error.own_doing and file.path == error.path]
        others = [file for file in group.files if file not in culprits]
        # Without a culprit all are suspected; with one, the others only if that happens again.
        least = TRUSTED + 1 if error.own_doing and not culprits else 0
        for file in await self.suspect(culprits, ALONE) + await self.suspect(others, least):
            file.error = error
        return False

    async def defer(self, file: BatchFile, *, on_trial: bool = False) -> None:
        """Let a suspect wait for its next trial, longer each time."""
        delay = Backoff(first=min(LONGEST_WAIT, 2.0 ** (file.claim.tries - TRUSTED)), last=LONGEST_WAIT).next()
        await self._outcomes.defer(file.claim, delay, on_trial=on_trial)
