-- KEYS: worker's list, queue, lease, leaseholders
-- ARGV: (head), 1 to do nothing while the lease lasts, else 0
-- Result: number of paths that went to the front of the queue, in their old order
-- Include: common

if ARGV[4] == '1' and redis.call('EXISTS', KEYS[3]) == 1 then
  return 0
end
local returned = 0
for _, path in ipairs(use('LRANGE', KEYS[1], 0, -1)) do
  if owned(path) then
    if ARGV[4] ~= '1' then
      survived(path, false)
    end
    move(KEYS[1], KEYS[2], 'LEFT', 'RIGHT')
    mark(path, 'state', 'queued')
    returned = returned + 1
  else
    use('LPOP', KEYS[1])
    doubt(KEYS[2], path)
  end
end
use('SREM', KEYS[4], NAME)
redis.call('DEL', KEYS[3])
return returned
