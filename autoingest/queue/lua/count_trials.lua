-- KEYS: worker's list
-- ARGV: (head), field, least number, then for each file path and claim
-- Result: for each file the number in this field of its record, one more than before; 0 if the claim is no longer
--   valid
-- Include: common

local result = {}
for i = 6, #ARGV, 2 do
  local path, number = ARGV[i], 0
  if holds(KEYS[1], path, ARGV[i + 1]) then
    number = math.max((tonumber(use('HGET', FILE .. path, ARGV[4])) or 0) + 1, tonumber(ARGV[5]))
    mark(path, ARGV[4], number)
  end
  result[#result + 1] = number
end
return result
