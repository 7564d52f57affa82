-- ARGV: (head), JSON: for each rejection a list of the hash of the rejected records, the sorted set of their times,
--   seconds that both are kept or 0 for ever, most records, field, content
-- Result: for each rejection how many others were dropped to make room for it, the least recently seen.
-- Include: common

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
