-- KEYS: exposures in progress
-- ARGV: (head), prefix of their hashes, seconds to the next look while an exposure is young, seconds for which it is, longest
--   time between two looks, seconds after which an exposure is given up, most exposures
-- Result: for each exposure that is due its folder, seconds since its first file, number of its detectors in the Butler, where
--   its list of detectors comes from or nothing, the names of missing detectors, and 1 if it was told to be
--   incomplete. No other process gets them before the
--   next look. Those that are complete are left out for good.
-- Include: common, progress

local time, result = tonumber(now()), {}
for _, folder in ipairs(use('ZRANGEBYSCORE', KEYS[1], '-inf', time, 'LIMIT', 0, ARGV[9])) do
  local obs_id = string.match(folder, '([^/]+)/$')
  local key = ARGV[4] .. (obs_id or '')
  local found = read_progress(key)
  local since = tonumber(found.own.since)
  if not since or found.own.state == 'complete' or time - since > tonumber(ARGV[8]) then
    use('ZREM', KEYS[1], folder)
  else
    local age = time - since
    local delay = tonumber(ARGV[5])
    if age >= tonumber(ARGV[6]) then
      delay = math.min(math.max(delay, age / 4), tonumber(ARGV[7]))
    end
    use('ZADD', KEYS[1], time + delay, folder)
    result[#result + 1] = {folder, tostring(age), found.number, found.own.expected_from or '', found.missing,
      found.own['told:exposure.incomplete'] or ''}
  end
end
return result
