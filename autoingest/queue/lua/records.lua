-- ARGV: (head), paths
-- Result: for each path its record
-- Include: common, record

local result = {}
for i = 4, #ARGV do
  result[i - 3] = record(ARGV[i])
end
return result
