-- KEYS: owed visits
-- ARGV: (head), JSON of an object with `fields` (of the visits that are no longer owed), `events` (see `progress`) and
--   `exposures`: for each of them its instrument, obs_id, id, record as JSON, and state of its visit
-- Result: nothing
-- Include: common, progress

local order = cjson.decode(ARGV[4])
for _, item in ipairs(order.exposures) do
  local instrument, obs_id, id, record, visit = unpack(item)
  local key = progress_key(order.events, {obs_id = obs_id})
  local known = use('HMGET', key, 'day_obs', 'folder', 'instrument')
  if known[1] and known[2] and known[3] == instrument then
    local exposure = {instrument = instrument, obs_id = obs_id, day_obs = known[1], folder = known[2]}
    if note_record(key, id, record, visit) then
      settle(order.events, exposure, key, false)
    end
  end
end
if #order.fields > 0 then
  use('HDEL', KEYS[1], unpack(order.fields))
end
