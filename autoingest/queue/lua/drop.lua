-- KEYS: dead letters, operators' log
-- ARGV: (head), bucket, operator, most entries of the operators' log, paths
-- Result: paths whose dead letters were removed; the file's record says so while it is kept.
-- Include: common, operator

local result = {}
for i = 7, #ARGV do
  local path = ARGV[i]
  if use('HEXISTS', KEYS[1], path) == 1 then
    local state = use('HGET', FILE .. path, 'state')
    if not state or state == 'dead' then
      mark(path, 'state', 'dropped')
    end
    use('HDEL', KEYS[1], path)
    result[#result + 1] = path
  end
end
note(KEYS[2], ARGV[6], ARGV[5], 'dropped', ARGV[4], result)
return result
