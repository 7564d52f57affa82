-- KEYS: waiting, queue
-- ARGV: (head), prefix of those waiting for an exposure, most paths, seconds from one look to the next, most files that
--   wait for an exposure to release at each look, how many were released before in this look, how many were
--   postponed before in this look
-- Result: number of paths whose time had come, then how many of those that wait for an exposure have been released and
--   postponed in this look. What is released goes to the back of the queue, the longest due first. The exposure of what
--   is postponed has not come, or would have woken it: it may wait for one of the next looks.
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
