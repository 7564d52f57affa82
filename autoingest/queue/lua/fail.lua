-- KEYS: worker's list, waiting, dead letters, count of failed attempts
-- ARGV: (head), path, claim, reason, exception, record's field for the exception, most attempts, delay in seconds after
--   the first attempt, day_obs or nothing, key that must exist for the attempt to be counted, or nothing, seconds from
--   the first failure before which it is not dead, dead letters that are kept in full, JSON of an object with `events` (see
--   `progress`), `camera` and `detector` (names, or nothing), and `code` and `description` of the event
-- Result: retry, dead, forgotten, or lost (the claim is no longer valid). When the limit of complete dead letters is
--   reached, further ones have no exception, and a file that is not in the store is forgotten: if it is there after all,
--   an event or a reconciliation queues it again.
-- Include: common, progress

local path = ARGV[4]
if not holds(KEYS[1], path, ARGV[5]) then
  return 'lost'
end
local time, record = now(), FILE .. path
local attempts = (tonumber(use('HGET', record, 'ing_fail_count')) or 0) + 1
if not (attempts >= 1 and attempts < 1e6) then
  attempts = 1
end
local first = tonumber(use('HGET', record, 'first_fail'))
if not (first and first > 0 and first < 1e12) then
  first = time
end
mark(path, 'ing_fail_count', attempts, 'first_fail', first, ARGV[8], ARGV[7])
survived(path, false)
local outcome
local over, delay = tonumber(ARGV[13]), ARGV[10] * 2 ^ math.min(attempts - 1, 60)
if attempts < tonumber(ARGV[9]) or tonumber(time) < first + over then
  use('ZADD', KEYS[2], time + (over > 0 and math.min(delay, over / 4) or delay), path)
  mark(path, 'state', 'waiting')
  outcome = 'retry'
else
  local full, etag = use('HLEN', KEYS[3]) >= tonumber(ARGV[14]), use('HGET', record, 'etag')
  if full then
    use('HDEL', record, ARGV[8])
  end
  if full and ARGV[6] == 'missing' then
    redis.call('DEL', record)
    outcome = 'forgotten'
  else
    use('HSET', KEYS[3], path, cjson.encode({
      reason = ARGV[6], exception = full and '' or ARGV[7], attempts = attempts, first_time = tonumber(first),
      last_time = tonumber(time), worker = NAME, etag = etag or cjson.null,
    }))
    mark(path, 'state', 'dead')
    outcome = 'dead'
    local told = cjson.decode(ARGV[15])
    local exposure = told.camera ~= '' and exposure_of_path(path, told.camera)
    if exposure then
      local key = progress_key(told.events, exposure)
      tell_file(told.events, exposure, path, told.detector, first, told.code, told.description)
      if told.detector ~= '' then
        open_progress(told.events, exposure, key, time)
        use('HSET', key, 'failed:' .. told.detector, ARGV[6])
      end
    end
  end
end
use('LREM', KEYS[1], -1, path)
if ARGV[11] ~= '' and (ARGV[12] == '' or redis.call('EXISTS', ARGV[12]) == 1) then
  count(KEYS[4], ARGV[11])
end
return outcome
