-- KEYS: worker's list, queue, waiting, owed visits
-- ARGV: (head), JSON of an object with
--   ingested, known, waiting_for: prefixes of the counts of ingested files, of the known exposures, and of those waiting for
--     an exposure
--   known_expiry, record_expiry: seconds that an exposure is known, and that the record of an ingested file is kept
--   owed: for each owed visit its field and the exception
--   events: settings of the events (see `progress`)
--   exposures: for each exposure its instrument, obs_id, id, record as JSON, and state of its visit or nothing
--   files: for each file its path, claim, eTag or nothing, size or nothing, instrument and day_obs of the statistics, obs_id
--     of the exposure that is known by it or nothing, its camera's and detector's names or nothing, epoch seconds of the
--     object's creation or nothing, and 1 if it replaces another version or nothing
-- Result: the paths that are ingested by this. The files that wait for one of the exposures go to the queue's front.
-- A worker whose claim is no longer valid has written its version nevertheless, perhaps after that of the newer claim.
-- If the versions differ, the file is queued again.
-- Include: common, progress

local order = cjson.decode(ARGV[4])
local events = order.events
local err = refused_progress(events.bucket) or refused_events()
if err then
  return err
end
local done, known, time = {}, {}, now()
local progress = {}
-- Keep only those fields of an ingested file's record that distinguish versions. A redelivery of its only event is
-- recognised by the eTag; several events, or one with another eTag, are kept. The record is rewritten, because Redis
-- does not return to the compact encoding after a long value.
local function shorten_record(path, etag, size)
  local record, old, kept_events = FILE .. path, {}, {}
  local all = use('HGETALL', record)
  for i = 1, #all, 2 do
    old[all[i]] = all[i + 1]
    if string.sub(all[i], 1, 6) == 'event:' then
      kept_events[#kept_events + 1], kept_events[#kept_events + 2] = all[i], all[i + 1]
    end
  end
  if #kept_events == 2 and old.etag and (etag == '' or etag == old.etag) then
    kept_events = {}
  end
  if etag == '' then
    etag, size = old.etag, old.size
  end
  local kept = {'state', 'ingested', 'ingest_time', time, unpack(kept_events)}
  for name, value in pairs({recv_time = old.recv_time, etag = etag, size = size}) do
    if value ~= '' then
      kept[#kept + 1], kept[#kept + 2] = name, value
    end
  end
  redis.call('DEL', record)
  redis.call('HSET', record, unpack(kept))
  redis.call('EXPIRE', record, order.record_expiry)
end

-- Note a detector that is in the Butler, to be recorded with the others of its exposure.
local function collect(path, camera, detector, etag, created, replaced)
  local exposure = exposure_of_path(path, camera)
  if not exposure then
    return
  end
  local item = progress[exposure.obs_id]
  if not item then
    item = {exposure = exposure, detectors = {}}
    progress[exposure.obs_id] = item
  end
  table.insert(item.detectors, detector)
  item.replaced = item.replaced or replaced
  created = tonumber(created)
  if created then
    item.first = math.min(item.first or created, created)
    item.last = math.max(item.last or created, created)
  end
  tell_file(events, exposure, path, detector, etag, 0, 'file ingested')
end

for _, owed in ipairs(order.owed) do
  local number = tonumber(time)
  use('HSETNX', KEYS[4], owed[1], cjson.encode({since = number, due = number, attempts = 0, exception = owed[2]}))
end
for _, file in ipairs(order.files) do
  local path, claim, etag, size, instrument, day, obs_id, camera, detector, created, replaced = unpack(file)
  local written = etag ~= '' and etag or size
  if not holds(KEYS[1], path, claim) then
    local record = use('HMGET', FILE .. path, 'state', 'worker', etag ~= '' and 'etag' or 'size')
    if record[1] and not owned(path) then
      use('LREM', KEYS[1], -1, path)
    end
    if record[1] == 'working' and record[2] ~= NAME and written ~= '' then
      mark(path, 'overtaken', written)
    elseif record[1] == 'ingested' and record[3] ~= written and written ~= '' then
      again(KEYS[2], path)
    end
  elseif (use('HGET', FILE .. path, 'overtaken') or written) ~= written then
    again(KEYS[2], path)
    use('LREM', KEYS[1], -1, path)
  else
    done[#done + 1] = path
    shorten_record(path, etag, size)
    use('LREM', KEYS[1], -1, path)
    if instrument ~= '' then
      count(order.ingested .. instrument, day)
    end
    if detector ~= '' then
      collect(path, camera, detector, etag, created, replaced ~= '')
    end
  end
  if obs_id ~= '' then
    known[obs_id] = true
  end
end
for obs_id in pairs(known) do
  redis.call('SET', order.known .. obs_id, time, 'EX', order.known_expiry)
  for _, path in ipairs(use('SMEMBERS', order.waiting_for .. obs_id)) do
    wake(path, KEYS[3], order.waiting_for, KEYS[2], 'RPUSH')
  end
  redis.call('DEL', order.waiting_for .. obs_id)
end
for _, item in ipairs(order.exposures) do
  local instrument, obs_id, id, record, visit = unpack(item)
  local group = progress[obs_id]
  if group and group.exposure.instrument == instrument then
    local exposure, key = group.exposure, progress_key(events, group.exposure)
    open_progress(events, exposure, key, time)
    local first = tonumber(use('HGET', key, 'first_put'))
    if group.first and (not first or group.first < first) then
      use('HSET', key, 'first_put', group.first)
    end
    local last = tonumber(use('HGET', key, 'last_put'))
    if group.last and (not last or group.last > last) then
      use('HSET', key, 'last_put', group.last)
    end
    local is_record_new = note_record(key, id, record, visit)
    local is_new, look = note_detectors(key, group.detectors)
    if is_record_new or look or group.replaced then
      settle(events, exposure, key, is_new or group.replaced)
    end
  end
end
return done
