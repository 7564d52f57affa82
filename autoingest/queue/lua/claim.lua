-- KEYS: queue, worker's list, lease, leaseholders, waiting, dead letters, site, any known exposure,
--   any files that wait for an exposure, pause of the bucket
-- ARGV: (head), most paths to hold, lease in ms, token of this claim, repository that the queue must belong to, or
--   nothing, 1 if this worker still works on what it claimed before
-- Result: an empty text while the bucket is paused and the worker holds nothing; otherwise, the repository that it belongs to instead; nothing is taken then. Otherwise all paths on the worker's list, in
--   the queue's order, each with the time and claim, size, etag, created, recv_time, ing_fail_count, first_wait,
--   butler_etag, tries of its record. A path that occurs twice is dropped, and so is one that was on the
--   list before and was announced again, unless the worker still works on it. A path keeps the token of the claim that
--   took it from the queue last, so that a claim whose answer was lost returns the same again.
-- Include: common

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
local paused = redis.call('EXISTS', KEYS[10]) == 1
if paused and #held == 0 then
  return ''
end
-- Two workers that write the same exposure wait for each other. So a batch that is at least half full ends where an
-- exposure ends of which it has ten files in a row.
local limit, last, run = tonumber(ARGV[4]), nil, 0
local function follow(path)
  local folder = string.match(path, '^.*/')
  run = folder == last and run + 1 or 1
  last = folder
end
for _, path in ipairs(held) do
  follow(path)
end
while not paused and #held < limit do
  local path = use('LINDEX', KEYS[1], -1)
  if not path or (#held >= limit / 2 and run >= 10 and string.match(path, '^.*/') ~= last) then
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
    follow(path)
  end
end
local result = {}
for i, path in ipairs(held) do
  result[i] = {path, time, unpack(use('HMGET', FILE .. path,
    'claim', 'size', 'etag', 'created', 'recv_time', 'ing_fail_count', 'first_wait', 'butler_etag',
    'tries'))}
end
return result
