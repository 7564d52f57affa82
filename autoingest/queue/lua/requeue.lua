-- KEYS: dead letters, queue, operators' log
-- ARGV: (head), bucket, operator, most entries of the operators' log, paths
-- Result: paths that were queued. The dead letter of a file that was announced again is only removed.
-- Include: common, operator

local result, time = {}, now()
for i = 7, #ARGV do
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
note(KEYS[3], ARGV[6], ARGV[5], 'requeued', ARGV[4], result)
return result
