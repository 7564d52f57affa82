-- ARGV: (head), JSON: for each notice a list of texts, empty if unknown: its queue, dead letters, waiting,
--   prefix of the workers' lists, REC, RECINSTR, MAXSEQ, set of the counted instruments of the annex, path,
--   event's identity, eTag, size, created, day of the statistics, sequence number, 1 if an operator demands it, key to
--   set because it came from Kafka, camera of its exposure
-- Result: for each notice 1 if the path is on the queue because of it, 0 if it is a duplicate; and twice the number of
--   events of this path that were forgotten to make room. It ends early, before the next notice, once it has searched
--   long queues for `MAX_STEPS` entries.
-- Include: common, progress
-- Constants: MAX_ANNEX_INSTRUMENTS, MAX_EVENTS, MAX_STEPS, FROM_KAFKA_EXPIRY

-- Whether an instrument of the annex is among the first MAX_ANNEX_INSTRUMENTS.
local function is_counted(annex, instrument)
  return use('SISMEMBER', annex, instrument) == 1
    or (redis.call('SCARD', annex) < MAX_ANNEX_INSTRUMENTS and redis.call('SADD', annex, instrument) == 1)
end

-- Forget the oldest events of a file beyond MAX_EVENTS; return how many.
local function forget(record)
  if use('HLEN', record) <= MAX_EVENTS then
    return 0
  end
  local all, events = use('HGETALL', record), {}
  for i = 1, #all, 2 do
    if string.sub(all[i], 1, 6) == 'event:' then
      events[#events + 1] = {tonumber(all[i + 1]) or 0, all[i]}
    end
  end
  table.sort(events, function(a, b) return a[1] < b[1] end)
  local number = math.max(0, #events - MAX_EVENTS)
  for i = 1, number do
    use('HDEL', record, events[i][2])
  end
  return number
end

local time, result, steps, opened = now(), {}, 0, {}

-- Begin the progress of an exposure, once in a call.
local function open_exposure(path, camera)
  local exposure = exposure_of_path(path, camera)
  if exposure and not opened[exposure.folder] then
    opened[exposure.folder] = true
    local settings = {bucket = string.match(path, '^[^/]+')}
    open_progress(settings, exposure, progress_key(settings, exposure), time)
  end
end

for i, notice in ipairs(cjson.decode(ARGV[4])) do
  if steps >= MAX_STEPS then
    break
  end
  local queue, dead, waiting, workers, day_count, instrument_count, highest, annex, path, event, etag, size, created,
    day, number, demanded, from_kafka, camera = unpack(notice)
  local record = FILE .. path
  local counter = highest ~= '' and highest or record
  local err = i == 1 and refused({
    {'HMGET', record, 'x'}, {'LPOS', queue, 'x'}, {'LPUSH', queue, 'x'}, {'ZREM', waiting, 'x'}, {'HDEL', dead, 'x'},
    {'HDEL', record, 'x'}, {'HSET', record, 'x', 'x'}, {'EXPIRE', record, '1'}, {'GET', counter}, {'SET', counter, '1'},
  }) or i == 1 and refused_progress(string.match(path, '^[^/]+'))
  if err then
    return err
  end
  local seen, state, received, known, ingested, worker = unpack(use('HMGET', record,
    'event:' .. event, 'state', 'recv_time', 'etag', 'ingest_time', 'worker'))
  local trigger = demanded ~= '' or (event == '' and etag == '')
  local same = etag ~= '' and known == etag
  local changed = etag ~= '' and known and known ~= etag

  -- Old services push and take paths, finish them and give them up, without changing the state.
  local on_queue = false
  if received and not seen then
    on_queue = use('LPOS', queue, path) and true
    steps = steps + redis.call('LLEN', queue)
    if not on_queue and (state == 'queued'
        or (state == 'working' and not use('LPOS', workers .. (worker or ''), path))
        or (state == 'waiting' and not use('ZSCORE', waiting, path))) then
      state = (tonumber(ingested) or -1) >= (tonumber(received) or 0) and 'ingested' or 'gone'
    end
  end

  local duplicate
  if seen then
    duplicate = true
  elseif trigger then
    duplicate = on_queue and not changed
  else
    duplicate = not changed
      and (on_queue or state == 'waiting' or (same and (state == 'working' or state == 'ingested')))
  end

  local fields = {}
  local function field(name, value)
    if value ~= '' then
      fields[#fields + 1], fields[#fields + 2] = name, value
    end
  end
  if event ~= '' and not seen then
    field('event:' .. event, time)
  end
  if not duplicate or (not seen and not known) then
    field('etag', etag)
    field('size', known and '' or size)
    field('created', created)
  end
  if not duplicate then
    if not on_queue then
      use('LPUSH', queue, path)
    end
    if state == 'ingested' and known and known ~= etag then
      field('butler_etag', known)
    end
    use('ZREM', waiting, path)
    use('HDEL', dead, path)
    use('HDEL', record, 'etag', 'size', 'created', 'ing_fail_exc', 'ing_fail_count', 'md_fail_exc',
      'first_fail', 'first_wait')
    mark(path, 'state', 'queued', 'recv_time', time, unpack(fields))
    if day ~= '' then
      count(day_count, day)
    end
    if instrument_count ~= '' and (annex == '' or is_counted(annex, instrument_count)) then
      count(instrument_count, day)
    end
    if highest ~= '' and tonumber(number) > (tonumber(use('GET', highest)) or -1) then
      redis.call('SET', highest, number)
    end
  elseif #fields > 0 then
    mark(path, unpack(fields))
  end
  if camera ~= '' then
    open_exposure(path, camera)
  end
  if from_kafka ~= '' then
    redis.call('SET', from_kafka, '1', 'NX', 'EX', FROM_KAFKA_EXPIRY)
  end
  result[i] = (duplicate and 0 or 1) + 2 * (seen and 0 or forget(record))
end
return result
