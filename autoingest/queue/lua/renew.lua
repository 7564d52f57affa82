-- KEYS: worker's list, lease
-- ARGV: lease in ms
-- Result: 1 if the worker still holds paths, else 0. Reading the list keeps the old services' rule from it, too.
-- Include: safe

if use('LLEN', KEYS[1]) == 0 then
  return 0
end
if redis.call('PEXPIRE', KEYS[2], ARGV[1]) == 0 then
  local time = redis.call('TIME')
  redis.call('SET', KEYS[2], string.format('%d.%06d', time[1], time[2]), 'PX', ARGV[1])
end
return 1
