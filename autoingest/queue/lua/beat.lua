-- KEYS: heartbeats, times of the heartbeats
-- ARGV: process, its heartbeat as JSON, seconds for which it is remembered, most processes to remember
-- Result: the server's time
-- Include: safe

local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6
use('HSET', KEYS[1], ARGV[1], ARGV[2])
use('ZADD', KEYS[2], now, ARGV[1])
local gone = use('ZRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[3])
for _, name in ipairs(use('ZRANGE', KEYS[2], 0, -1 - ARGV[4])) do
  gone[#gone + 1] = name
end
for _, name in ipairs(gone) do
  use('HDEL', KEYS[1], name)
  use('ZREM', KEYS[2], name)
end
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('EXPIRE', KEYS[2], ARGV[3])
return string.format('%.3f', now)
