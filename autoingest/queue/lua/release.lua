-- KEYS: waiting, queue
-- ARGV: (head), prefix of those waiting for an exposure, most paths, seconds from one pass to the next, most files that
--   wait for an exposure to release in each pass, how many were released before in this pass, how many were
--   postponed before in this pass
-- Result: number of paths that were due, then how many of those that wait for an exposure have been released and
--   postponed in this pass. Released paths go to the back of the queue, the longest due first. The exposure of a
--   postponed path has not arrived, or would have woken it, so it can wait for a later pass.
-- Include: common

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
