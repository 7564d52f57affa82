-- KEYS: worker's list, queue, waiting, lease
-- ARGV: (head), path, claim, seconds that it waits, obs_id or nothing, key of the known exposure, key of those
--   waiting for the exposure, 1 to keep the count of trials
-- Result: waiting, queued (the exposure has become known since the claim), or lost (the claim is no longer valid).
--   An exposure known before the claim does not count: the Butler was asked since then, and the file would loop.
-- Include: common

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
