"""From notices to the queue: what has been seen before stays out, everything else is queued and counted.

What an event means for its path, by the state of the path's record and the version (eTag) that it names:

==================== ======================= ================ =================== ==================
event                queued, waiting         working          ingested            dead, unknown
==================== ======================= ================ =================== ==================
seen before          duplicate               duplicate        duplicate           duplicate
same eTag            duplicate               duplicate        duplicate           queued
other eTag           queued (once)           queued           queued              queued
eTag not known       duplicate               queued           queued              queued
neither id nor eTag  queued: dupl., else q.  queued           queued              queued
==================== ======================= ================ =================== ==================

What an operator demands is taken like an event of neither id nor eTag, and if it is on the queue with another eTag, the
record follows.

Events of one path come in any order, and no clock tells which version is the newest. Once an event tells of a second
version, the sizes in events are not believed any more: whoever ingests the file asks the store, and notes the version
that the store served. So the record converges whatever the order of the events, and each event queues its path only
once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from typing import Literal

import redis.asyncio

from ..app import metrics
from ..app.config import EnqueueConfig
from ..app.pacing import PacedLog
from ..model.notices import Notice, Rejection
from ..model.objects import ExposureObject, LfaObject
from . import keys
from .coalescing import GroupedScript, Replicas
from .scripts import COMMON, head
from .statistics import MAX_ANNEX_INSTRUMENTS, counted_as

Outcome = Literal["queued", "duplicate"]

MAX_EVENTS = 16
"""Events of one file that are known again when they are redelivered; beyond that the oldest is forgotten."""

MAX_CANARIES = 1000
"""Arrived canaries that are kept of each bucket."""

MAX_STEPS = 1_000_000
"""Entries of queues that one call may search for paths, some 10 ms of the server's time; it then returns early."""

# ARGV: (head), JSON: for each notice a list of texts, empty where it is not known: its queue, dead letters, waiting,
#   prefix of the workers' lists, REC, RECINSTR, MAXSEQ, set of the annex's instruments that are counted, path,
#   event's identity, eTag, size, created, day of the statistics, sequence number, 1 if it is demanded, key that is set
#   because it came by Kafka
# Result: for each notice 1 if the path is on the queue because of it, 0 if it is a duplicate; and twice the number of
#   events of this path that were forgotten to make room. It ends early, before the next notice, once it has searched
#   long queues for `MAX_STEPS` entries.
ACCEPT = (
    COMMON
    + """
-- Whether an instrument of the annex is among the first so many.
local function is_counted(annex, instrument)
  return use('SISMEMBER', annex, instrument) == 1 or (redis.call('SCARD', annex) < """
    + str(MAX_ANNEX_INSTRUMENTS)
    + """ and redis.call('SADD', annex, instrument) == 1)
end

-- Forget the oldest events of a file beyond the most that are kept; return how many.
local function forget(record)
  if use('HLEN', record) <= """
    + str(MAX_EVENTS)
    + """ then
    return 0
  end
  local all, events = use('HGETALL', record), {}
  for i = 1, #all, 2 do
    if string.sub(all[i], 1, 6) == 'event:' then
      events[#events + 1] = {tonumber(all[i + 1]) or 0, all[i]}
    end
  end
  table.sort(events, function(a, b) return a[1] < b[1] end)
  local number = math.max(0, #events - """
    + str(MAX_EVENTS)
    + """)
  for i = 1, number do
    use('HDEL', record, events[i][2])
  end
  return number
end

local time, result, steps = now(), {}, 0
for i, notice in ipairs(cjson.decode(ARGV[4])) do
  if steps >= """
    + str(MAX_STEPS)
    + """ then
    break
  end
  local queue, dead, waiting, workers, day_count, instrument_count, highest, annex, path, event, etag, size, created,
    day, number, demanded, from_kafka = unpack(notice)
  local record = FILE .. path
  local counter = highest ~= '' and highest or record
  local err = i == 1 and refused({
    {'HMGET', record, 'x'}, {'LPOS', queue, 'x'}, {'LPUSH', queue, 'x'}, {'ZREM', waiting, 'x'}, {'HDEL', dead, 'x'},
    {'HDEL', record, 'x'}, {'HSET', record, 'x', 'x'}, {'EXPIRE', record, '1'}, {'GET', counter}, {'SET', counter, '1'},
  })
  if err then
    return err
  end
  local seen, state, received, known, ingested, worker = unpack(use('HMGET', record,
    'event:' .. event, 'state', 'recv_time', 'etag', 'ingest_time', 'worker'))
  local trigger = demanded ~= '' or (event == '' and etag == '')
  local same = etag ~= '' and known == etag
  local changed = etag ~= '' and known and known ~= etag

  -- Old services push and take paths, finish them and give them up, without changing the state.
  local on_queue = false
  if received and not seen then
    on_queue = use('LPOS', queue, path) and true
    steps = steps + redis.call('LLEN', queue)
    if not on_queue and (state == 'queued'
        or (state == 'working' and not use('LPOS', workers .. (worker or ''), path))
        or (state == 'waiting' and not use('ZSCORE', waiting, path))) then
      state = (tonumber(ingested) or -1) >= (tonumber(received) or 0) and 'ingested' or 'gone'
    end
  end

  local duplicate
  if seen then
    duplicate = true
  elseif trigger then
    duplicate = on_queue and not changed
  else
    duplicate = not changed
      and (on_queue or state == 'waiting' or (same and (state == 'working' or state == 'ingested')))
  end

  local fields = {}
  local function field(name, value)
    if value ~= '' then
      fields[#fields + 1], fields[#fields + 2] = name, value
    end
  end
  if event ~= '' and not seen then
    field('event:' .. event, time)
  end
  if not duplicate or (not seen and not known) then
    field('etag', etag)
    field('size', known and '' or size)
    field('created', created)
  end
  if not duplicate then
    if not on_queue then
      use('LPUSH', queue, path)
    end
    if state == 'ingested' and known and known ~= etag then
      field('butler_etag', known)
    end
    use('ZREM', waiting, path)
    use('HDEL', dead, path)
    use('HDEL', record, 'etag', 'size', 'created', 'ing_fail_exc', 'ing_fail_count', 'md_fail_exc',
      'first_fail', 'first_wait')
    mark(path, 'state', 'queued', 'recv_time', time, unpack(fields))
    if day ~= '' then
      count(day_count, day)
    end
    if instrument_count ~= '' and (annex == '' or is_counted(annex, instrument_count)) then
      count(instrument_count, day)
    end
    if highest ~= '' and tonumber(number) > (tonumber(use('GET', highest)) or -1) then
      redis.call('SET', highest, number)
    end
  elseif #fields > 0 then
    mark(path, unpack(fields))
  end
  if from_kafka ~= '' then
    redis.call('SET', from_kafka, '1', 'NX', 'EX', """
    + str(keys.FROM_KAFKA_EXPIRY)
    + """)
  end
  result[i] = (duplicate and 0 or 1) + 2 * (seen and 0 or forget(record))
end
return result
"""
)

# ARGV: (head), JSON: for each rejection a list of the hash of the rejected records, the sorted set of their times,
#   seconds that both are kept or 0 for ever, most records, field, content
# Result: for each rejection how many others were dropped to make room for it, those last seen longest ago.
REJECT = (
    COMMON
    + """
local time, result = tonumber(now()), {}
for i, rejection in ipairs(cjson.decode(ARGV[4])) do
  local hash, times, kept, most, field, content = unpack(rejection)
  local before = decoded(use('HGET', hash, field))
  content.count, content.first_time, content.last_time = (tonumber(before.count) or 0) + 1,
    tonumber(before.first_time) or time, time
  use('HSET', hash, field, cjson.encode(content))
  local forgotten = 0
  use('ZADD', times, time, field)
  for _ = most + 1, use('ZCARD', times) do
    forgotten = forgotten + use('HDEL', hash, use('ZPOPMIN', times)[1])
  end
  if kept > 0 then
    redis.call('EXPIRE', hash, kept)
    redis.call('EXPIRE', times, kept)
  end
  result[i] = forgotten
end
return result
"""
)


class Intake:
    """Accepts notices, for any number of callers at once.

    Each call returns only when all that it was given is durably in Redis, and waits while Redis is away: the caller
    sets the limit, by cancelling, or by a time of the event loop at which the call raises `TimeoutError`.

    A file is counted as received each time that it comes onto the queue, a duplicate is not: the counts of received
    and of ingested files agree when all is done.

    Parameters
    ----------
    client
        Redis client that decodes responses.
    max_rejected
        Rejected records that are kept of each bucket.
    replicas
        Who must have confirmed an accepted notice, if not the primary alone.
    hold
        Whether callers wait while Redis is away. A command does not: Redis's error is raised, which names the cause.
    """

    def __init__(
        self,
        client: redis.asyncio.Redis,
        max_rejected: int = EnqueueConfig().max_rejected,
        replicas: Replicas | None = None,
        *,
        hold: bool = True,
    ) -> None:
        self._max_rejected = max_rejected
        self._events_forgotten = PacedLog("events of a file forgotten")
        self._records_forgotten = PacedLog("records forgotten")
        self._accept = GroupedScript(client, ACCEPT, head(), replicas, hold=hold)
        self._reject = GroupedScript(client, REJECT, head(), hold=hold)

    @property
    def is_busy(self) -> bool:
        """Whether anything is on its way into Redis."""
        return self._accept.is_busy or self._reject.is_busy

    async def accept(
        self,
        notices: Sequence[tuple[Notice, ExposureObject | LfaObject]],
        deadline: float | None = None,
        *,
        from_kafka: bool = False,
    ) -> list[Outcome]:
        """Queue what is new.

        Parameters
        ----------
        notices
            What has been read.
        deadline
            Time of the event loop until which the caller waits.
        from_kafka
            Whether they came by Kafka, which services that read the same topic beside this one want to know.

        Returns
        -------
        outcomes
            One for each notice, in their order. If Redis fails after the step but before its answer, the step is
            repeated, and a notice that it has queued may be called a duplicate.
        """
        results = await self._accept([_arguments(notice, obj, from_kafka) for notice, obj in notices], deadline)
        for (notice, _), result in zip(notices, results, strict=True):
            if number := result // 2:
                metrics.EVENTS_FORGOTTEN.labels(notice.bucket).inc(number)
                self._events_forgotten.warn(notice.bucket, path=notice.path, number=number, limit=MAX_EVENTS)
        return ["queued" if result % 2 else "duplicate" for result in results]

    async def reject(self, rejections: Sequence[Rejection], deadline: float | None = None) -> None:
        """Record what can't be used, where an operator can list it, and count how often it comes.

        Canaries are recorded apart, where their sender looks for them. Where there are too many records, those last
        seen longest ago are dropped.
        """
        forgotten = await self._reject(
            [
                (
                    *(
                        (keys.canary(item.bucket), keys.canary_times(item.bucket), keys.CANARY_EXPIRY, MAX_CANARIES)
                        if item.is_canary
                        else (keys.rejected(item.bucket), keys.rejected_times(item.bucket), 0, self._max_rejected)
                    ),
                    item.key,
                    {"key": item.key, "reason": item.reason, "event": item.event},
                )
                for item in rejections
            ],
            deadline,
        )
        numbers: Counter[tuple[str, bool]] = Counter()
        for item, number in zip(rejections, forgotten, strict=True):
            numbers[item.bucket, item.is_canary] += number
        for (bucket, is_canary), number in (+numbers).items():
            metrics.REJECTED_FORGOTTEN.labels(bucket).inc(number)
            what, limit = ("canaries", MAX_CANARIES) if is_canary else ("rejected records", self._max_rejected)
            self._records_forgotten.warn((bucket, is_canary), bucket=bucket, what=what, number=number, limit=limit)

    async def close(self) -> None:
        """Give up what is on its way; call it when no caller is left."""
        await self._accept.close()
        await self._reject.close()


def _arguments(notice: Notice, obj: ExposureObject | LfaObject, from_kafka: bool) -> tuple[str, ...]:
    bucket, (instrument, day) = notice.bucket, counted_as(obj)
    number = highest = annex = ""
    if isinstance(obj, LfaObject):
        annex = keys.annex_instruments(bucket)
    elif day:
        number, highest = str(obj.seq_num), keys.max_seq(bucket, instrument, day)
    return (
        keys.queue(bucket), keys.dead(bucket), keys.waiting(bucket), keys.worker(bucket, ""), keys.received(bucket),
        keys.received_by_instrument(bucket, instrument) if instrument else "", highest, annex, notice.path,
        _identity(notice), notice.etag or "", "" if notice.size is None else str(notice.size),
        "" if notice.created is None else repr(notice.created), day, number,
        "1" if notice.demanded else "", keys.from_kafka(notice.path) if from_kafka else "",
    )  # fmt: skip


def _identity(notice: Notice) -> str:
    """Return what is the same in every redelivery of an event, and in no other event; nothing if that can't be told."""
    event = notice.event_id or (notice.etag and notice.created and repr(notice.created))
    return blake2b(f"{event}/{notice.etag}".encode(), digest_size=8).hexdigest() if event else ""
