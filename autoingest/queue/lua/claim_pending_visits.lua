-- KEYS: owed visits
-- ARGV: seconds before the second attempt, longest time between two attempts, most exposures
-- Result: fields of the exposures that are due. They stay recorded, and are due again at the time of the next attempt.
-- Include: safe

local clock = redis.call('TIME')
local time, result = clock[1] + clock[2] / 1e6, {}
local all = use('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local entry = decoded(all[i + 1])
  local due = tonumber(entry.due) or 0
  if (due <= time or due > time + 2 * ARGV[2]) and #result < tonumber(ARGV[3]) then
    local attempts = tonumber(entry.attempts) or 0
    entry.due = time + math.min(ARGV[1] * 2 ^ math.min(attempts, 60), ARGV[2])
    entry.attempts = attempts + 1
    use('HSET', KEYS[1], all[i], cjson.encode(entry))
    result[#result + 1] = all[i]
  end
end
return result
