-- KEYS: list of an old worker, queue, leaseholders
-- ARGV: (head), seconds without a change
-- Result: number of paths that went to the front of the queue, in their old order; -1 if the idle time of the list is
--   unknown (with an LFU policy). OBJECT IDLETIME comes first, as reading the list would reset it.
-- Include: common

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
