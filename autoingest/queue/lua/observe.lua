-- ARGV: (head), JSON of an object with `events` and `exposure` (see `progress`), and what the Butler has of the exposure: `id`,
--   `record` (JSON), `visit` (`none`, `owed`, `defined`) and `detectors` (names)
-- Result: nothing. Detectors that other programs have ingested count, too.
-- Include: common, progress

local order = cjson.decode(ARGV[4])
local exposure, events = order.exposure, order.events
local key = progress_key(events, exposure)
open_progress(events, exposure, key, now())
note_record(key, order.id, order.record, order.visit)
settle(events, exposure, key, (note_detectors(key, order.detectors)))
