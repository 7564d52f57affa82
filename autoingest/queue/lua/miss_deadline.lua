-- ARGV: (head), JSON of an object with `events` and `exposure` (see `progress`), and `last_seen` (detector -> where it was last
--   seen)
-- Result: 1 if the exposure is told to be incomplete: once, unless it is complete.
-- Include: common, progress

local order = cjson.decode(ARGV[4])
local exposure, events = order.exposure, order.events
local key = progress_key(events, exposure)
local found = read_progress(key)
if not found.own.since or found.own.state == 'complete' or found.own['told:exposure.incomplete'] then
  return 0
end
use('HSET', key, 'told:exposure.incomplete', '1')
local last_seen = next(order.last_seen) and cjson.encode(order.last_seen) or '{}'
local visit = found.own.visit and cjson.encode(found.own.visit) or 'null'
tell(events, exposure, found, 'exposure.incomplete', 1, ',"last_seen":' .. last_seen .. ',"visit":' .. visit)
return 1
