-- KEYS: worker's list, queue, waiting, owed visits
-- ARGV: (head), prefix of the counts of ingested files, prefix of the known exposures, prefix of those waiting for an
--   exposure, seconds that an exposure is known, number of texts about owed visits, seconds that the record of an
--   ingested file is kept, the texts about owed visits, for each exposure its field and the exception, then for each
--   file path, claim, eTag or nothing, size or nothing, instrument, day_obs, obs_id or nothing
-- Result: the paths that are ingested by this. The files that wait for one of the exposures go to the queue's front.
-- A worker whose claim is no longer valid has written its version nevertheless, perhaps after that of the newer claim.
-- If the versions differ, the file is queued again.
-- Include: common

local done, exposures, time = {}, {}, now()
-- Keep only those fields of an ingested file's record that distinguish versions. A redelivery of its only event is
-- recognised by the eTag; several events, or one with another eTag, are kept. The record is rewritten, because Redis
-- does not return to the compact encoding after a long value.
local function shorten_record(path, etag, size)
  local record, old, events = FILE .. path, {}, {}
  local all = use('HGETALL', record)
  for i = 1, #all, 2 do
    old[all[i]] = all[i + 1]
    if string.sub(all[i], 1, 6) == 'event:' then
      events[#events + 1], events[#events + 2] = all[i], all[i + 1]
    end
  end
  if #events == 2 and old.etag and (etag == '' or etag == old.etag) then
    events = {}
  end
  if etag == '' then
    etag, size = old.etag, old.size
  end
  local kept = {'state', 'ingested', 'ingest_time', time, unpack(events)}
  for name, value in pairs({recv_time = old.recv_time, etag = etag, size = size}) do
    if value ~= '' then
      kept[#kept + 1], kept[#kept + 2] = name, value
    end
  end
  redis.call('DEL', record)
  redis.call('HSET', record, unpack(kept))
  redis.call('EXPIRE', record, ARGV[9])
end
local last_owed = 9 + ARGV[8]
for i = 10, last_owed, 2 do
  local number = tonumber(time)
  local entry = {since = number, due = number, attempts = 0, exception = ARGV[i + 1]}
  use('HSETNX', KEYS[4], ARGV[i], cjson.encode(entry))
end
for i = last_owed + 1, #ARGV, 7 do
  local path, claim, etag, size, instrument, day, obs_id = unpack(ARGV, i, i + 6)
  local written = etag ~= '' and etag or size
  if not holds(KEYS[1], path, claim) then
    local file = use('HMGET', FILE .. path, 'state', 'worker', etag ~= '' and 'etag' or 'size')
    if file[1] and not owned(path) then
      use('LREM', KEYS[1], -1, path)
    end
    if file[1] == 'working' and file[2] ~= NAME and written ~= '' then
      mark(path, 'overtaken', written)
    elseif file[1] == 'ingested' and file[3] ~= written and written ~= '' then
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
      count(ARGV[4] .. instrument, day)
    end
  end
  if obs_id ~= '' then
    exposures[obs_id] = true
  end
end
for obs_id in pairs(exposures) do
  redis.call('SET', ARGV[5] .. obs_id, time, 'EX', ARGV[7])
  for _, path in ipairs(use('SMEMBERS', ARGV[6] .. obs_id)) do
    wake(path, KEYS[3], ARGV[6], KEYS[2], 'RPUSH')
  end
  redis.call('DEL', ARGV[6] .. obs_id)
end
return done
