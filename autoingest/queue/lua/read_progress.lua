-- KEYS: hash of an exposure's progress
-- ARGV: (head), obs_id
-- Result: JSON of what is known of the exposure, or nothing
-- Include: common, progress

local found = read_progress(KEYS[1])
local own = found.own
if not own.since then
  return false
end
local exposure = {instrument = own.instrument, day_obs = own.day_obs, obs_id = ARGV[4], folder = own.folder}
return describe(exposure, found, string.format(',"state":%s,"visit":%s',
  cjson.encode(own.state or 'incomplete'), own.visit and cjson.encode(own.visit) or 'null'))
