-- KEYS: publisher, position, undelivered events
-- ARGV: token of the publisher, its time to live in ms, new position or nothing, id of an event that was refused or nothing, JSON
--   of it, most undelivered events
-- Result: the position, or nothing if another process is the publisher. It stays or becomes this one; only then the position
--   moves and the event is kept.
-- Include: safe

local holder = use('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return false
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if ARGV[4] ~= '' then
  use('HSET', KEYS[3], ARGV[4], ARGV[5])
  if redis.call('HLEN', KEYS[3]) > tonumber(ARGV[6]) then
    redis.call('HDEL', KEYS[3], redis.call('HRANDFIELD', KEYS[3]))
  end
end
if ARGV[3] ~= '' then
  use('SET', KEYS[2], ARGV[3])
end
return use('GET', KEYS[2]) or ''
