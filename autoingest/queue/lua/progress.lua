-- What is known of an exposure on its way into the Butler, and the events that tell it. Included after `common`. An
-- exposure is a table with `instrument`, `day_obs`, `obs_id` and `folder`; the settings of the events
-- are a table with `bucket`, and `keep` and `keep_files`: entries of the streams (0: none of files).
-- Constants: EVENTS, FILE_EVENTS, PROGRESS, PROGRESS_DUE, PROGRESS_DAY, PROGRESS_EXPIRY, MAX_PROGRESS

-- The error if this Redis user may not record progress.
local function refused_progress(bucket)
  local hash, day, due = PROGRESS .. bucket .. ':', PROGRESS_DAY .. bucket .. ':', PROGRESS_DUE .. bucket
  return refused({
    {'HGETALL', hash}, {'HSET', hash, 'x', 'x'}, {'HSETNX', hash, 'x', 'x'}, {'HDEL', hash, 'x'}, {'SADD', day, 'x'},
    {'ZADD', due, '1', 'x'}, {'ZCARD', due}, {'ZPOPMIN', due},
  })
end

-- The error if this Redis user may not append events.
local function refused_events()
  return refused({{'XADD', EVENTS, '*', 'x', 'x'}, {'XADD', FILE_EVENTS, '*', 'x', 'x'}})
end

local function progress_key(settings, exposure)
  return PROGRESS .. settings.bucket .. ':' .. exposure.obs_id
end

local function exposure_of_path(path, instrument)
  local folder, day, obs_id = string.match(path, '^(.*/(%d+)/([^/]+)/)[^/]+$')
  return folder and {instrument = instrument, day_obs = day, obs_id = obs_id, folder = folder}
end

local function append(stream, keep, id, kind, subject, data)
  use('XADD', stream, 'MAXLEN', '~', keep, '*', 'id', id, 'type', kind, 'subject', subject, 'time', now(),
    'data', data)
end

local function purpose(name)
  return string.find(name, '_SG', 1, true) and 'guider' or string.find(name, '_SW', 1, true) and 'wavefront' or 'science'
end

local function json_list(items)
  return '[' .. table.concat(items, ',') .. ']'
end

local function json_names(names)
  local quoted = {}
  for i, name in ipairs(names) do
    quoted[i] = cjson.encode(name)
  end
  return json_list(quoted)
end

local function json_counts(counts)
  return string.format('{"science":%d,"wavefront":%d,"guider":%d}', counts.science, counts.wavefront, counts.guider)
end

-- What an exposure's hash says: its own fields; counts of expected and ingested detectors by purpose; names that are
-- missing; failed ones with their reason, as JSON; number of ingested detectors and of missing wavefront sensors.
local function read_progress(key)
  local own, failed, missing, number, missing_wavefront = {}, {}, {}, 0, 0
  local wanted, got = {science = 0, wavefront = 0, guider = 0}, {science = 0, wavefront = 0, guider = 0}
  local expected, is_in = {}, {}
  local all = use('HGETALL', key)
  for i = 1, #all, 2 do
    local field, value = all[i], all[i + 1]
    local kind, name = string.match(field, '^(%w+):(.*)$')
    if kind == 'expected' and wanted[name] then
      for detector in string.gmatch(value, '%S+') do
        expected[detector] = name
      end
    elseif kind == 'failed' then
      failed[#failed + 1] = '{"detector":' .. cjson.encode(name) .. ',"reason":' .. cjson.encode(value) .. '}'
    elseif field == 'ingested' then
      for detector in string.gmatch(value, '%S+') do
        is_in[detector] = true
      end
    else
      own[field] = value
    end
  end
  for detector, kind in pairs(expected) do
    wanted[kind] = wanted[kind] + 1
    if not is_in[detector] then
      missing[#missing + 1] = detector
      missing_wavefront = missing_wavefront + (kind == 'wavefront' and 1 or 0)
    end
  end
  for detector in pairs(is_in) do
    local kind = expected[detector] or purpose(detector)
    got[kind] = got[kind] + 1
    number = number + 1
  end
  table.sort(missing)
  return {own = own, wanted = wanted, got = got, missing = missing, failed = failed, number = number,
    missing_wavefront = missing_wavefront}
end

-- The data of an event: the exposure's record, as far as it is known, and its progress; `more` is further JSON. What is missing
-- would be a long list at the beginning, and is left out if `is_early`.
local function describe(exposure, found, more, is_early)
  local own, times = found.own, {}
  local record = own.exposure or string.format('{"instrument":%s,"obs_id":%s,"day_obs":%d}',
    cjson.encode(exposure.instrument), cjson.encode(exposure.obs_id), tonumber(exposure.day_obs))
  for _, name in ipairs({'first_put', 'last_put', 'last_ingested', 'visit_defined'}) do
    times[#times + 1] = string.format('"%s":%s', name, tonumber(own[name]) and own[name] or 'null')
  end
  return table.concat({
    string.sub(record, 1, -2),
    ',"expected":', own.expected_from and json_counts(found.wanted) or 'null',
    ',"ingested":', json_counts(found.got),
    is_early and '' or ',"missing":' .. (own.expected_from and json_names(found.missing) or 'null'),
    ',"failed":', json_list(found.failed),
    ',"folder":', cjson.encode('s3://' .. (own.folder or exposure.folder)),
    ',"times":{', table.concat(times, ','), '}',
    ',"revision":', tonumber(own.revision) or 1, more or '', '}',
  })
end

local function tell(settings, exposure, found, kind, number, more)
  local what = string.match(kind, '^exposure%.(.*)$') or 'visit'
  local id = table.concat({exposure.instrument, found.own.id or exposure.obs_id, what, number}, ':')
  local is_early = kind == 'exposure.known' or kind == 'visit.defined'
  append(EVENTS, settings.keep, id, kind, exposure.instrument .. '/' .. exposure.obs_id,
    describe(exposure, found, more, is_early))
end

-- The event of a file; `version` distinguishes it from others of the same file. The first six names are those of the field's
-- event imageInOODS.
local function tell_file(settings, exposure, path, detector, version, code, description)
  if settings.keep_files == 0 then
    return
  end
  local raft, sensor = string.match(detector, '^(.*)_([^_]*)$')
  local kind = code == 0 and 'file.ingested' or 'file.failed'
  append(FILE_EVENTS, settings.keep_files, table.concat({exposure.instrument, string.match(path, '[^/]*$'), kind, version}, ':'),
    kind, exposure.instrument .. '/' .. exposure.obs_id, table.concat({
      '{"camera":', cjson.encode(exposure.instrument), ',"obsid":', cjson.encode(exposure.obs_id),
      ',"raft":', cjson.encode(raft or '??'), ',"sensor":', cjson.encode(sensor or '??'),
      ',"statusCode":', code, ',"description":', cjson.encode(description),
      ',"detector":', cjson.encode(detector), ',"url":', cjson.encode('s3://' .. path), '}',
    }))
end

-- Tell what has become true. `is_new`: a detector, or another version of one, has come in.
local function settle(settings, exposure, key, is_new)
  local found = read_progress(key)
  local own = found.own
  local function first(kind)
    if own['told:' .. kind] then
      return
    end
    tell(settings, exposure, found, kind, 1)
    use('HSET', key, 'told:' .. kind, '1')
  end
  if own.exposure then
    first('exposure.known')
    if own.visit == 'defined' then
      first('visit.defined')
    end
    if own.expected_from and found.wanted.wavefront > 0 and found.missing_wavefront == 0 then
      first('exposure.wavefront')
    end
  end
  local complete = own.exposure and own.expected_from and #found.missing == 0
    and (own.visit == 'none' or own.visit == 'defined')
  if complete and (own.state ~= 'complete' or is_new) then
    own.revision = (tonumber(own.revision) or 0) + 1
    use('HSET', key, 'revision', own.revision, 'state', 'complete')
    tell(settings, exposure, found, 'exposure.complete', own.revision)
  elseif not complete and own.state == 'complete' then
    use('HSET', key, 'state', 'incomplete')
  end
  redis.call('EXPIRE', key, PROGRESS_EXPIRY)
end

-- Begin the progress of an exposure.
local function open_progress(settings, exposure, key, time)
  if use('HSETNX', key, 'since', time) == 1 then
    local day = PROGRESS_DAY .. settings.bucket .. ':' .. exposure.day_obs
    use('HSET', key, 'instrument', exposure.instrument, 'day_obs', exposure.day_obs, 'folder', exposure.folder)
    redis.call('EXPIRE', key, PROGRESS_EXPIRY)
    use('SADD', day, exposure.obs_id)
    redis.call('EXPIRE', day, PROGRESS_EXPIRY)
    use('ZADD', PROGRESS_DUE .. settings.bucket, 'NX', time, exposure.folder)
    if redis.call('ZCARD', PROGRESS_DUE .. settings.bucket) > MAX_PROGRESS then
      redis.call('ZPOPMIN', PROGRESS_DUE .. settings.bucket)
    end
  end
end

-- Record what the Butler has of an exposure: its record as JSON, and the state of its visit (`none`, `owed`, `defined`,
-- or nothing if it is not known). Return whether there is anything to tell.
local function note_record(key, id, record, visit)
  local old = use('HMGET', key, 'exposure', 'visit')
  use('HSET', key, 'exposure', record, 'id', id)
  if visit == '' or visit == old[2] or old[2] == 'defined' then
    return not old[1]
  end
  use('HSET', key, 'visit', visit)
  if visit == 'defined' then
    use('HSET', key, 'visit_defined', now())
  end
  return true
end

-- Record detectors that are in the Butler. Return whether any of them is new, and whether there may be anything to tell.
local function note_detectors(key, detectors)
  local old = use('HGET', key, 'ingested') or ' '
  local all, look = old, false
  for _, name in ipairs(detectors) do
    if not string.find(all, ' ' .. name .. ' ', 1, true) then
      all = all .. name .. ' '
      look = look or purpose(name) == 'wavefront'
    end
    use('HDEL', key, 'failed:' .. name)
  end
  if all == old then
    return false, false
  end
  use('HSET', key, 'ingested', all, 'last_ingested', now())
  local number = tonumber(use('HGET', key, 'expected_number'))
  return true, look or (number and select(2, string.gsub(all, '%S+', '')) >= number)
end
