"""The Lua scripts by which work moves.

Every script is one atomic step: it has happened or it has not. All are for a single Redis node; keys of files and
exposures are built inside the scripts from prefixes. Times are the server's, in epoch seconds.
"""

from __future__ import annotations

from . import keys

COMMON = """
local FILE, KEEP, NAME = ARGV[1], ARGV[2], ARGV[3]

-- The server's time, epoch seconds with microseconds, as text.
local function now()
  local time = redis.call('TIME')
  return string.format('%d.%06d', time[1], time[2])
end

-- Set fields of a file's record; the record is kept as long again.
local function mark(path, ...)
  redis.call('HSET', FILE .. path, ...)
  redis.call('EXPIRE', FILE .. path, KEEP)
end

-- Whether the file's state is still this worker's to change. It is not where the file has come anew since it was
-- claimed: it is then on the queue again, or beyond, and that copy decides.
local function owned(path)
  local file = redis.call('HMGET', FILE .. path, 'state', 'worker')
  return not file[1] or (file[1] == 'working' and file[2] == NAME)
end

-- From waiting to the queue: RPUSH to its front, LPUSH to its back. Nothing happens if the file does not wait.
local function wake(path, waiting, waiting_for, queue, push)
  if redis.call('ZREM', waiting, path) == 0 then
    return
  end
  local obs_id = redis.call('HGET', FILE .. path, 'waits_for')
  if obs_id then
    redis.call('SREM', waiting_for .. obs_id, path)
    redis.call('HDEL', FILE .. path, 'waits_for')
  end
  redis.call(push, queue, path)
  mark(path, 'state', 'queued')
end
"""
"""Begin of the scripts. ARGV 1: prefix of the files' keys; 2: seconds that a file's record is kept; 3: worker's name,
or empty."""


# KEYS: queue, worker's list, lease, leaseholders, waiting, dead letters
# ARGV: (head), most paths to hold, lease in ms
# Result: all paths on the worker's list, in the queue's order, each with the time and size, etag, created, recv_time,
#   ing_fail_count, first_wait of its record. A path that is met a second time is dropped, and so is one that the list
#   still held and that has come anew since.
CLAIM = (
    COMMON
    + """
local held, seen = {}, {}
local list = redis.call('LRANGE', KEYS[2], 0, -1)
for i = #list, 1, -1 do
  if owned(list[i]) then
    held[#held + 1], seen[list[i]] = list[i], true
  else
    redis.call('LREM', KEYS[2], -1, list[i])
  end
end
for _ = #held + 1, tonumber(ARGV[4]) do
  local path = redis.call('LMOVE', KEYS[1], KEYS[2], 'RIGHT', 'LEFT')
  if not path then
    break
  elseif seen[path] then
    redis.call('LPOP', KEYS[2])
  else
    held[#held + 1], seen[path] = path, true
  end
end
if #held == 0 then
  return {}
end
local time, result = now(), {}
redis.call('SET', KEYS[3], time, 'PX', ARGV[5])
redis.call('SADD', KEYS[4], NAME)
for i, path in ipairs(held) do
  redis.call('ZREM', KEYS[5], path)
  redis.call('HDEL', KEYS[6], path)
  mark(path, 'state', 'working', 'worker', NAME)
  result[i] = {path, time, unpack(redis.call('HMGET', FILE .. path,
    'size', 'etag', 'created', 'recv_time', 'ing_fail_count', 'first_wait'))}
end
return result
"""
)

# KEYS: worker's list, lease
# ARGV: lease in ms
# Result: 1 if the worker still holds paths, else 0. Reading the list keeps the old services' rule from it, too.
RENEW = """
if redis.call('LLEN', KEYS[1]) == 0 then
  return 0
end
if redis.call('PEXPIRE', KEYS[2], ARGV[1]) == 0 then
  local time = redis.call('TIME')
  redis.call('SET', KEYS[2], string.format('%d.%06d', time[1], time[2]), 'PX', ARGV[1])
end
return 1
"""

# KEYS: worker's list, queue, waiting, owed visits
# ARGV: (head), prefix of the counts of ingested files, prefix of the known exposures, prefix of those waiting for an
#   exposure, seconds that an exposure is known, number of texts about owed visits, these texts, for each exposure its
#   field and the exception, then for each file path, instrument, day_obs, obs_id or nothing
# Result: the paths that were on the list. The files that wait for one of the exposures go to the queue's front.
INGESTED = (
    COMMON
    + """
local done, exposures = {}, {}
local last_owed = 8 + ARGV[8]
for i = 9, last_owed, 2 do
  local time = tonumber(now())
  local entry = {since = time, due = time, attempts = 0, exception = ARGV[i + 1]}
  redis.call('HSETNX', KEYS[4], ARGV[i], cjson.encode(entry))
end
for i = last_owed + 1, #ARGV, 4 do
  local path, obs_id = ARGV[i], ARGV[i + 3]
  if redis.call('LREM', KEYS[1], -1, path) == 1 then
    done[#done + 1] = path
    redis.call('HINCRBY', ARGV[4] .. ARGV[i + 1], ARGV[i + 2], 1)
    if owned(path) then
      redis.call('HDEL', FILE .. path, 'ing_fail_exc', 'ing_fail_count', 'md_fail_exc', 'first_fail', 'first_wait')
      mark(path, 'state', 'ingested', 'ingest_time', now())
    end
  end
  if obs_id ~= '' then
    exposures[obs_id] = true
  end
end
for obs_id in pairs(exposures) do
  redis.call('SET', ARGV[5] .. obs_id, now(), 'EX', ARGV[7])
  for _, path in ipairs(redis.call('SMEMBERS', ARGV[6] .. obs_id)) do
    wake(path, KEYS[3], ARGV[6], KEYS[2], 'RPUSH')
  end
  redis.call('DEL', ARGV[6] .. obs_id)
end
return done
"""
)

# KEYS: worker's list, queue, waiting, lease
# ARGV: (head), path, seconds that it waits, obs_id or nothing, key of the known exposure, key of those
#   waiting for the exposure
# Result: waiting, queued (the exposure has become known since the claim), or lost (not on the list). An exposure known
#   before the claim wakes nobody: the Butler has been asked since, and the file would go round and round.
PARK = (
    COMMON
    + """
local path, obs_id = ARGV[4], ARGV[6]
if redis.call('LREM', KEYS[1], -1, path) == 0 or not owned(path) then
  return 'lost'
end
if obs_id ~= '' then
  redis.call('HSETNX', FILE .. path, 'first_wait', now())
  local known = redis.call('GET', ARGV[7])
  if known and tonumber(known) >= tonumber(redis.call('GET', KEYS[4]) or 0) then
    redis.call('RPUSH', KEYS[2], path)
    mark(path, 'state', 'queued')
    return 'queued'
  end
  redis.call('SADD', ARGV[8], path)
  redis.call('EXPIRE', ARGV[8], KEEP)
  mark(path, 'waits_for', obs_id)
end
redis.call('ZADD', KEYS[3], now() + ARGV[5], path)
mark(path, 'state', 'waiting')
return 'waiting'
"""
)

# KEYS: worker's list, waiting, dead letters, count of failed attempts
# ARGV: (head), path, reason, exception, record's field for the exception, most attempts, delay in seconds after the
#   first attempt, day_obs or nothing
# Result: retry, dead, or lost (not on the list)
FAILED = (
    COMMON
    + """
local path = ARGV[4]
if redis.call('LREM', KEYS[1], -1, path) == 0 or not owned(path) then
  return 'lost'
end
if ARGV[10] ~= '' then
  redis.call('HINCRBY', KEYS[4], ARGV[10], 1)
end
local time = now()
local attempts = redis.call('HINCRBY', FILE .. path, 'ing_fail_count', 1)
redis.call('HSETNX', FILE .. path, 'first_fail', time)
mark(path, ARGV[7], ARGV[6])
if attempts < tonumber(ARGV[8]) then
  redis.call('ZADD', KEYS[2], time + ARGV[9] * 2 ^ (attempts - 1), path)
  mark(path, 'state', 'waiting')
  return 'retry'
end
local file = redis.call('HMGET', FILE .. path, 'first_fail', 'etag')
redis.call('HSET', KEYS[3], path, cjson.encode({
  path = path, reason = ARGV[5], exception = ARGV[6], attempts = attempts, first_time = tonumber(file[1]),
  last_time = tonumber(time), worker = NAME, etag = file[2] or cjson.null,
}))
mark(path, 'state', 'dead')
return 'dead'
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
local paths, returned = redis.call('LRANGE', KEYS[1], 0, -1), 0
redis.call('DEL', KEYS[1], KEYS[3])
redis.call('SREM', KEYS[4], NAME)
for _, path in ipairs(paths) do
  if owned(path) then
    redis.call('RPUSH', KEYS[2], path)
    mark(path, 'state', 'queued')
    returned = returned + 1
  end
end
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
elseif not idle or idle < tonumber(ARGV[4]) or redis.call('SISMEMBER', KEYS[3], NAME) == 1 then
  return 0
end
local paths = redis.call('LRANGE', KEYS[1], 0, -1)
redis.call('DEL', KEYS[1])
for _, path in ipairs(paths) do
  redis.call('RPUSH', KEYS[2], path)
  mark(path, 'state', 'queued')
end
return #paths
"""
)

# KEYS: waiting, queue
# ARGV: (head), prefix of those waiting for an exposure, most paths
# Result: number of paths whose time has come; they went to the back of the queue, the longest due first
RELEASE = (
    COMMON
    + """
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now(), 'LIMIT', 0, ARGV[5])
for _, path in ipairs(due) do
  wake(path, KEYS[1], ARGV[4], KEYS[2], 'LPUSH')
end
return #due
"""
)

# KEYS: owed visits
# ARGV: seconds before the second attempt, longest time between two attempts, most exposures
# Result: fields of the exposures whose time has come. They stay, and are not due again before the next attempt's time.
CLAIM_OWED = """
local clock = redis.call('TIME')
local time, result = clock[1] + clock[2] / 1e6, {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local entry = cjson.decode(all[i + 1])
  if entry.due <= time and #result < tonumber(ARGV[3]) then
    entry.due = time + math.min(ARGV[1] * 2 ^ entry.attempts, ARGV[2])
    entry.attempts = entry.attempts + 1
    redis.call('HSET', KEYS[1], all[i], cjson.encode(entry))
    result[#result + 1] = all[i]
  end
end
return result
"""


def head(name: str = "") -> list[str]:
    """First arguments of every script that begins with `COMMON`."""
    return [keys.file(""), str(keys.FILE_EXPIRY), name]
