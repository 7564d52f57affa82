-- KEYS: dead letters, queue
-- ARGV: (head), paths
-- Result: paths that were queued. The dead letter of a file that was announced again is only removed.
-- Include: common

local result, time = {}, now()
for i = 4, #ARGV do
  local path = ARGV[i]
  if use('HEXISTS', KEYS[1], path) == 1 then
    local state = use('HGET', FILE .. path, 'state')
    if not state or state == 'dead' then
      use('LPUSH', KEYS[2], path)
      use('HDEL', FILE .. path, 'ing_fail_exc', 'ing_fail_count', 'md_fail_exc', 'first_fail', 'first_wait')
      mark(path, 'state', 'queued', 'recv_time', time)
      result[#result + 1] = path
    end
    use('HDEL', KEYS[1], path)
  end
end
return result
