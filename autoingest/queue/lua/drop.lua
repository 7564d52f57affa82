-- KEYS: dead letters
-- ARGV: (head), paths
-- Result: paths whose dead letters were removed; the file's record says so while it is kept.
-- Include: common

local result = {}
for i = 4, #ARGV do
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
return result
