"""The Lua scripts by which work moves.

Every script is one atomic step: it has happened or it has not. All are for a single Redis node; keys of files and
exposures are built inside the scripts from prefixes. Times are the server's, in epoch seconds.
"""

from __future__ import annotations

from . import keys

TRUSTED = 2
"""Claims without an outcome up to which a file is trusted. With more, it is suspected of ending processes."""

SAFE = (
    """
-- Call a command. A key of the wrong type holds nothing that is ours: it is set aside, and the command sees no key.
local function use(command, key, ...)
  local reply = redis.pcall(command, key, ...)
  if type(reply) == 'table' and reply.err then
    if string.find(reply.err, 'WRONGTYPE', 1, true) then
      redis.call('RENAME', key, '"""
    + keys.set_aside("")
    + """' .. key)
    end
    return redis.call(command, key, ...)
  end
  return reply
end

-- The table in a JSON text, without numbers that are infinite, huge or NaN; empty for any other text.
local function decoded(text)
  local good, value = pcall(cjson.decode, text)
  local result = {}
  for name, item in pairs(good and type(value) == 'table' and value or {}) do
    if type(item) ~= 'number' or (item == item and math.abs(item) < 1e15) then
      result[name] = item
    end
  end
  return result
end
"""
)
"""Beginning of every script that writes."""

COMMON = (
    SAFE
    + """
local FILE, KEEP, NAME = ARGV[1], ARGV[2], ARGV[3]

-- The server's time, epoch seconds with microseconds, as text.
local function now()
  local time = redis.call('TIME')
  return string.format('%d.%06d', time[1], time[2])
end

-- The error for a Redis user who may not run one of some commands, or nothing. Whoever begins without it may do half a
-- step, again and again. Redis before version 7 can't tell.
local function refused(commands)
  for _, command in ipairs(redis.acl_check_cmd and commands or {}) do
    if not redis.acl_check_cmd(unpack(command)) then
      return redis.error_reply('NOPERM this Redis user may not run ' .. command[1] .. ' on ' .. command[2])
    end
  end
end

-- Move a path from one list to another.
local function move(from, to, ...)
  use('LLEN', from)
  use('LLEN', to)
  redis.call('LMOVE', from, to, ...)
end

-- Add one to a count; a field that holds no number must not stop a file.
local function count(key, field)
  pcall(use, 'HINCRBY', key, field, 1)
end

-- Set fields of a file's record; the record is kept as long again.
local function mark(path, ...)
  use('HSET', FILE .. path, ...)
  redis.call('EXPIRE', FILE .. path, KEEP)
end

-- Whether a path on this worker's list is this worker's to change. It is not where the file has come anew since it was
-- claimed: it is then on the queue again, or beyond, and that copy decides.
local function owned(path)
  local file = use('HMGET', FILE .. path, 'state', 'worker')
  return not file[1] or (file[1] == 'working' and file[2] == NAME)
end

-- Queue a file that another version may have been written after.
local function again(queue, path)
  use('LPUSH', queue, path)
  use('HDEL', FILE .. path, 'size', 'claim', 'overtaken')
  mark(path, 'state', 'queued')
end

-- A worker has left off with a file that has come anew since, and nobody knows whether it has written its version, nor
-- whether after the later one: the later one goes round once more. One that is still to be claimed is written anyway.
local function doubt(queue, path)
  local file = use('HMGET', FILE .. path, 'state', 'worker')
  if file[1] == 'ingested' then
    again(queue, path)
  elseif file[1] == 'working' and file[2] ~= NAME then
    mark(path, 'overtaken', 'unknown')
  end
end

-- Whether a claim of a path is still valid. If the file has come anew since, it is not, and the entry on the list
-- belongs to a later claim of this worker, or to nobody: then the next claim drops it.
local function holds(list, path, claim)
  local file = use('HMGET', FILE .. path, 'state', 'worker', 'claim')
  if file[1] and (file[1] ~= 'working' or file[2] ~= NAME or file[3] ~= claim) then
    return false
  end
  return use('LPOS', list, path)
end

-- A try of a file has ended, well or not, and the process lives. A suspected file stays suspected until it is in the
-- Butler, or the Butler has looked at it.
local function survived(path, acquitted)
  local record = FILE .. path
  use('HDEL', record, 'trials')
  if acquitted or not ((tonumber(use('HGET', record, 'tries')) or 0) > """
    + str(TRUSTED)
    + """) then
    use('HDEL', record, 'tries')
  end
end

-- From waiting to the queue: RPUSH to its front, LPUSH to its back. Nothing happens if the file does not wait.
local function wake(path, waiting, waiting_for, queue, push)
  if not use('ZSCORE', waiting, path) then
    return
  end
  local obs_id = use('HGET', FILE .. path, 'waits_for')
  if obs_id then
    use('SREM', waiting_for .. obs_id, path)
    use('HDEL', FILE .. path, 'waits_for')
  end
  use(push, queue, path)
  mark(path, 'state', 'queued')
  use('ZREM', waiting, path)
end
"""
)
"""Beginning of the scripts that move files. ARGV 1: prefix of the files' keys; 2: seconds that a file's record is kept;
3: worker's name, or empty."""


# KEYS: queue, worker's list, lease, leaseholders, waiting, dead letters, site, any known exposure,
#   any files that wait for an exposure
# ARGV: (head), most paths to hold, lease in ms, token of this claim, repository that the queue must belong to, or
#   nothing, 1 if this worker still works on what it claimed before
# Result: the repository that it belongs to instead; nothing is taken then. Otherwise all paths on the worker's list, in
#   the queue's order, each with the time and claim, size, etag, created, recv_time, ing_fail_count, first_wait,
#   butler_etag, tries of its record. A path that is met a second time is dropped, and so is one that the list still
#   held and that has come anew since, unless the worker still works on it. A path keeps the token of the claim that
#   took it from the queue last, so that a claim whose answer was lost returns the same again.
CLAIM = (
    COMMON
    + """
local record, known, woken = FILE .. 'x', KEYS[8], KEYS[9]
local err = refused({
  {'HMGET', record, 'x'}, {'HGETALL', record}, {'HSET', record, 'x', 'x'}, {'HSETNX', record, 'x', 'x'},
  {'HDEL', record, 'x'}, {'DEL', record}, {'EXPIRE', record, '1'}, {'HINCRBY', record, 'x', '1'},
  {'LMOVE', KEYS[1], KEYS[2], 'RIGHT', 'LEFT'}, {'RPOP', KEYS[1]}, {'LPUSH', KEYS[1], 'x'}, {'RPUSH', KEYS[1], 'x'},
  {'LREM', KEYS[2], '1', 'x'}, {'LPOS', KEYS[2], 'x'}, {'SADD', KEYS[4], 'x'}, {'SET', KEYS[3], 'x', 'PX', '1'},
  {'ZADD', KEYS[5], '1', 'x'}, {'ZREM', KEYS[5], 'x'}, {'HSET', KEYS[6], 'x', 'x'}, {'HDEL', KEYS[6], 'x'},
  {'SET', known, 'x', 'EX', '1'}, {'GET', known}, {'SADD', woken, 'x'}, {'SMEMBERS', woken}, {'DEL', woken},
})
if err then
  return err
end
local TOKEN, held, seen, overtaken, time = ARGV[6], {}, {}, {}, now()
local site = use('GET', KEYS[7])
if ARGV[7] ~= '' and site ~= ARGV[7] then
  if site then
    return site
  end
  redis.call('SET', KEYS[7], ARGV[7])
end
local list = use('LRANGE', KEYS[2], 0, -1)
if #list == 0 and use('LLEN', KEYS[1]) == 0 then
  return {}
end
use('SADD', KEYS[4], NAME)
redis.call('SET', KEYS[3], time, 'PX', ARGV[5])
local function take(path)
  mark(path, 'state', 'working', 'worker', NAME, 'claim', TOKEN)
  count(FILE .. path, 'tries')
  use('ZREM', KEYS[5], path)
  use('HDEL', KEYS[6], path)
end
for i = #list, 1, -1 do
  local path = list[i]
  if not seen[path] and owned(path) then
    held[#held + 1], seen[path] = path, true
    if not use('HGET', FILE .. path, 'claim') then
      take(path)
    end
  elseif seen[path] then
    use('LREM', KEYS[2], 1, path)
  elseif ARGV[8] == '1' then
    overtaken[path] = true
  else
    use('LREM', KEYS[2], -1, path)
    doubt(KEYS[1], path)
  end
end
while #held < tonumber(ARGV[4]) do
  local path = use('LINDEX', KEYS[1], -1)
  if not path then
    break
  end
  take(path)
  if seen[path] or overtaken[path] then
    use('RPOP', KEYS[1])
  else
    move(KEYS[1], KEYS[2], 'RIGHT', 'LEFT')
  end
  if not seen[path] then
    held[#held + 1], seen[path] = path, true
  end
end
local result = {}
for i, path in ipairs(held) do
  result[i] = {path, time, unpack(use('HMGET', FILE .. path,
    'claim', 'size', 'etag', 'created', 'recv_time', 'ing_fail_count', 'first_wait', 'butler_etag',
    'tries'))}
end
return result
"""
)

# KEYS: worker's list, lease
# ARGV: lease in ms
# Result: 1 if the worker still holds paths, else 0. Reading the list keeps the old services' rule from it, too.
RENEW = (
    SAFE
    + """
if use('LLEN', KEYS[1]) == 0 then
  return 0
end
if redis.call('PEXPIRE', KEYS[2], ARGV[1]) == 0 then
  local time = redis.call('TIME')
  redis.call('SET', KEYS[2], string.format('%d.%06d', time[1], time[2]), 'PX', ARGV[1])
end
return 1
"""
)

# KEYS: worker's list, queue, waiting, owed visits
# ARGV: (head), prefix of the counts of ingested files, prefix of the known exposures, prefix of those waiting for an
#   exposure, seconds that an exposure is known, number of texts about owed visits, seconds that the record of an
#   ingested file is kept, the texts about owed visits, for each exposure its field and the exception, then for each
#   file path, claim, eTag or nothing, size or nothing, instrument, day_obs, obs_id or nothing
# Result: the paths that are ingested by this. The files that wait for one of the exposures go to the queue's front.
# A claim that is not valid any more has written its version all the same, perhaps after the version of the claim that
# took its place: if the two differ, the file is queued again.
INGESTED = (
    COMMON
    + """
local done, exposures, time = {}, {}, now()
-- Keep of an ingested file's record what is needed to tell its versions apart. A redelivery of its only event is known
-- by the eTag; several events, or one that told another eTag, are kept. Redis stores the record in little space only if
-- it is written anew, as it may once have held a long text.
local function settle(path, etag, size)
  local record, old, events = FILE .. path, {}, {}
  local all = use('HGETALL', record)
  for i = 1, #all, 2 do
    old[all[i]] = all[i + 1]
    if string.sub(all[i], 1, 6) == 'event:' then
      events[#events + 1], events[#events + 2] = all[i], all[i + 1]
    end
  end
  if #events == 2 and old.etag and (etag == '' or etag == old.etag) then
    events = {}
  end
  if etag == '' then
    etag, size = old.etag, old.size
  end
  local kept = {'state', 'ingested', 'ingest_time', time, unpack(events)}
  for name, value in pairs({recv_time = old.recv_time, etag = etag, size = size}) do
    if value ~= '' then
      kept[#kept + 1], kept[#kept + 2] = name, value
    end
  end
  redis.call('DEL', record)
  redis.call('HSET', record, unpack(kept))
  redis.call('EXPIRE', record, ARGV[9])
end
local last_owed = 9 + ARGV[8]
for i = 10, last_owed, 2 do
  local number = tonumber(time)
  local entry = {since = number, due = number, attempts = 0, exception = ARGV[i + 1]}
  use('HSETNX', KEYS[4], ARGV[i], cjson.encode(entry))
end
for i = last_owed + 1, #ARGV, 7 do
  local path, claim, etag, size, instrument, day, obs_id = unpack(ARGV, i, i + 6)
  local written = etag ~= '' and etag or size
  if not holds(KEYS[1], path, claim) then
    local file = use('HMGET', FILE .. path, 'state', 'worker', etag ~= '' and 'etag' or 'size')
    if file[1] and not owned(path) then
      use('LREM', KEYS[1], -1, path)
    end
    if file[1] == 'working' and file[2] ~= NAME and written ~= '' then
      mark(path, 'overtaken', written)
    elseif file[1] == 'ingested' and file[3] ~= written and written ~= '' then
      again(KEYS[2], path)
    end
  elseif (use('HGET', FILE .. path, 'overtaken') or written) ~= written then
    again(KEYS[2], path)
    use('LREM', KEYS[1], -1, path)
  else
    done[#done + 1] = path
    settle(path, etag, size)
    use('LREM', KEYS[1], -1, path)
    if instrument ~= '' then
      count(ARGV[4] .. instrument, day)
    end
  end
  if obs_id ~= '' then
    exposures[obs_id] = true
  end
end
for obs_id in pairs(exposures) do
  redis.call('SET', ARGV[5] .. obs_id, time, 'EX', ARGV[7])
  for _, path in ipairs(use('SMEMBERS', ARGV[6] .. obs_id)) do
    wake(path, KEYS[3], ARGV[6], KEYS[2], 'RPUSH')
  end
  redis.call('DEL', ARGV[6] .. obs_id)
end
return done
"""
)

# KEYS: worker's list, queue, waiting, lease
# ARGV: (head), path, claim, seconds that it waits, obs_id or nothing, key of the known exposure, key of those
#   waiting for the exposure, 1 to keep the count of trials
# Result: waiting, queued (the exposure has become known since the claim), or lost (the claim is not valid any more).
#   An exposure known before the claim does not count: the Butler has been asked since, and the file would loop.
PARK = (
    COMMON
    + """
local path, obs_id, state = ARGV[4], ARGV[7], 'waiting'
if not holds(KEYS[1], path, ARGV[5]) then
  return 'lost'
end
if obs_id ~= '' then
  use('HSETNX', FILE .. path, 'first_wait', now())
  local known = tonumber(use('GET', ARGV[8]))
  if known and known >= (tonumber(use('GET', KEYS[4])) or 0) then
    use('RPUSH', KEYS[2], path)
    state = 'queued'
  else
    use('SADD', ARGV[9], path)
    redis.call('EXPIRE', ARGV[9], KEEP)
    mark(path, 'waits_for', obs_id)
  end
end
if state == 'waiting' then
  use('ZADD', KEYS[3], now() + ARGV[6], path)
end
if ARGV[10] ~= '1' then
  survived(path, obs_id ~= '')
end
mark(path, 'state', state)
use('LREM', KEYS[1], -1, path)
return state
"""
)

# KEYS: worker's list, waiting, dead letters, count of failed attempts
# ARGV: (head), path, claim, reason, exception, record's field for the exception, most attempts, delay in seconds after
#   the first attempt, day_obs or nothing, key that must exist for the attempt to be counted, or nothing, seconds from
#   the first failure before which it is not dead, dead letters that are kept in full
# Result: retry, dead, forgotten, or lost (the claim is not valid any more). With as many dead letters as are kept in
#   full, further ones have no exception, and a file that is not in the store is forgotten: if it is there after all, an
#   event or a reconciliation brings it back.
FAILED = (
    COMMON
    + """
local path = ARGV[4]
if not holds(KEYS[1], path, ARGV[5]) then
  return 'lost'
end
local time, record = now(), FILE .. path
local attempts = (tonumber(use('HGET', record, 'ing_fail_count')) or 0) + 1
if not (attempts >= 1 and attempts < 1e6) then
  attempts = 1
end
local first = tonumber(use('HGET', record, 'first_fail'))
if not (first and first > 0 and first < 1e12) then
  first = time
end
mark(path, 'ing_fail_count', attempts, 'first_fail', first, ARGV[8], ARGV[7])
survived(path, false)
local outcome
local over, delay = tonumber(ARGV[13]), ARGV[10] * 2 ^ math.min(attempts - 1, 60)
if attempts < tonumber(ARGV[9]) or tonumber(time) < first + over then
  use('ZADD', KEYS[2], time + (over > 0 and math.min(delay, over / 4) or delay), path)
  mark(path, 'state', 'waiting')
  outcome = 'retry'
else
  local full, etag = use('HLEN', KEYS[3]) >= tonumber(ARGV[14]), use('HGET', record, 'etag')
  if full then
    use('HDEL', record, ARGV[8])
  end
  if full and ARGV[6] == 'missing' then
    redis.call('DEL', record)
    outcome = 'forgotten'
  else
    use('HSET', KEYS[3], path, cjson.encode({
      reason = ARGV[6], exception = full and '' or ARGV[7], attempts = attempts, first_time = tonumber(first),
      last_time = tonumber(time), worker = NAME, etag = etag or cjson.null,
    }))
    mark(path, 'state', 'dead')
    outcome = 'dead'
  end
end
use('LREM', KEYS[1], -1, path)
if ARGV[11] ~= '' and (ARGV[12] == '' or redis.call('EXISTS', ARGV[12]) == 1) then
  count(KEYS[4], ARGV[11])
end
return outcome
"""
)

# KEYS: worker's list
# ARGV: (head), field, least number, then for each file path and claim
# Result: for each file the number in this field of its record, one more than before; 0 where the claim is not valid any
#   more
COUNT = (
    COMMON
    + """
local result = {}
for i = 6, #ARGV, 2 do
  local path, number = ARGV[i], 0
  if holds(KEYS[1], path, ARGV[i + 1]) then
    number = math.max((tonumber(use('HGET', FILE .. path, ARGV[4])) or 0) + 1, tonumber(ARGV[5]))
    mark(path, ARGV[4], number)
  end
  result[#result + 1] = number
end
return result
"""
)

# KEYS: worker's list, queue, lease, leaseholders
# ARGV: (head), 1 to do nothing while the lease lasts, else 0
# Result: number of paths that went to the front of the queue, in their old order
GIVE_BACK = (
    COMMON
    + """
if ARGV[4] == '1' and redis.call('EXISTS', KEYS[3]) == 1 then
  return 0
end
local returned = 0
for _, path in ipairs(use('LRANGE', KEYS[1], 0, -1)) do
  if owned(path) then
    if ARGV[4] ~= '1' then
      survived(path, false)
    end
    move(KEYS[1], KEYS[2], 'LEFT', 'RIGHT')
    mark(path, 'state', 'queued')
    returned = returned + 1
  else
    use('LPOP', KEYS[1])
    doubt(KEYS[2], path)
  end
end
use('SREM', KEYS[4], NAME)
redis.call('DEL', KEYS[3])
return returned
"""
)

# KEYS: list of an old worker, queue, leaseholders
# ARGV: (head), seconds without a change
# Result: number of paths that went to the front of the queue, in their old order; -1 if the server can't tell how long
#   the list was left alone (an LFU policy). OBJECT IDLETIME comes first, as any read of the list would set it to 0.
GIVE_BACK_OLD = (
    COMMON
    + """
local idle = redis.pcall('OBJECT', 'IDLETIME', KEYS[1])
if type(idle) == 'table' then
  return -1
elseif not idle or idle < tonumber(ARGV[4]) or use('SISMEMBER', KEYS[3], NAME) == 1 then
  return 0
end
local paths = use('LRANGE', KEYS[1], 0, -1)
for _, path in ipairs(paths) do
  move(KEYS[1], KEYS[2], 'LEFT', 'RIGHT')
  mark(path, 'state', 'queued')
end
return #paths
"""
)

# KEYS: waiting, queue
# ARGV: (head), prefix of those waiting for an exposure, most paths, seconds from one look to the next, most files that
#   wait for an exposure to release at each look, how many were released and postponed before in this look
# Result: number of paths whose time had come, then how many of those that wait for an exposure have been released and
#   postponed in this look. What is released goes to the back of the queue, the longest due first. The exposure of what
#   is postponed has not come, or would have woken it: it may wait for one of the next looks.
RELEASE = (
    COMMON
    + """
local due = use('ZRANGEBYSCORE', KEYS[1], '-inf', now(), 'LIMIT', 0, ARGV[5])
local interval, most, released, postponed = ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
for _, path in ipairs(due) do
  if not use('HGET', FILE .. path, 'waits_for') then
    wake(path, KEYS[1], ARGV[4], KEYS[2], 'LPUSH')
  elseif released < 1 or (released < most and use('LLEN', KEYS[2]) < most) then
    released = released + 1
    wake(path, KEYS[1], ARGV[4], KEYS[2], 'LPUSH')
  else
    postponed = postponed + 1
    use('ZADD', KEYS[1], now() + interval * (math.ceil(postponed / most) - 0.5), path)
  end
end
return {#due, released, postponed}
"""
)

# KEYS: owed visits
# ARGV: seconds before the second attempt, longest time between two attempts, most exposures
# Result: fields of the exposures whose time has come. They stay, and are not due again before the next attempt's time.
CLAIM_OWED = (
    SAFE
    + """
local clock = redis.call('TIME')
local time, result = clock[1] + clock[2] / 1e6, {}
local all = use('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local entry = decoded(all[i + 1])
  local due = tonumber(entry.due) or 0
  if (due <= time or due > time + 2 * ARGV[2]) and #result < tonumber(ARGV[3]) then
    local attempts = tonumber(entry.attempts) or 0
    entry.due = time + math.min(ARGV[1] * 2 ^ math.min(attempts, 60), ARGV[2])
    entry.attempts = attempts + 1
    use('HSET', KEYS[1], all[i], cjson.encode(entry))
    result[#result + 1] = all[i]
  end
end
return result
"""
)


def head(name: str = "") -> list[str]:
    """First arguments of every script that begins with `COMMON`."""
    return [keys.file(""), str(keys.FILE_EXPIRY), name]
