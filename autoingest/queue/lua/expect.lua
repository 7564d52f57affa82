-- ARGV: (head), JSON of an object with `events` (see `progress`), `exposure` (see there), `source` (`file` or `camera`),
--   `detectors` (name -> `science`, `wavefront` or `guider`), and `if_all_in`: only if all of them are in the Butler
-- Result: 1 if these detectors are expected now. A list from the store replaces the camera's detectors, and stays.
-- Include: common, progress

local order = cjson.decode(ARGV[4])
local exposure, events = order.exposure, order.events
local key = progress_key(events, exposure)
open_progress(events, exposure, key, now())
local source = use('HGET', key, 'expected_from')
if source == 'file' or source == order.source then
  return 0
end
local names, number = {science = {}, wavefront = {}, guider = {}}, 0
local ingested = use('HGET', key, 'ingested') or ''
for name, kind in pairs(order.detectors) do
  if order.if_all_in and not string.find(ingested, ' ' .. name .. ' ', 1, true) then
    return 0
  end
  number = number + 1
  table.insert(names[kind], name)
end
for kind, own in pairs(names) do
  table.sort(own)
  use('HSET', key, 'expected:' .. kind, table.concat(own, ' '))
end
use('HSET', key, 'expected_from', order.source, 'expected_number', number)
settle(events, exposure, key, false)
return 1
