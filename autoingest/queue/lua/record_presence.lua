-- KEYS: for each arrival its presence key and the hash of its group; at the end the stream of arrivals, and the time since
--   when arrivals are recorded
-- ARGV: milliseconds for which they are kept, entries that the stream keeps, then for each arrival URL, instrument, group,
--   snap, raft and sensor, obs_id, JSON of the rest, number of images in the group or nothing
-- Result: nothing
-- Two exposures may have the same group, snap and detector. The presence key has the URL of the newer exposure, whichever
-- comes first; the group's hash has both.
-- Include: safe

local FIELDS = 8

local function age(url)
  local controller, day, number = string.match(url, '/%u%u_(%u)_(%d+)_(%d+)/[^/]*$')
  if not controller then
    return 0
  end
  return (tonumber(day) * 1000000 + tonumber(number)) * 10 + (string.find('OCHPQS', controller, 1, true) or 0)
end

local now = redis.call('TIME')
local time = now[1] .. '.' .. string.format('%06d', now[2])
local stream, since = KEYS[#KEYS - 1], KEYS[#KEYS]
use('SET', since, now[1], 'NX')
for i = 1, (#KEYS - 2) / 2 do
  local key, group = KEYS[2 * i - 1], KEYS[2 * i]
  local first = 3 + (i - 1) * FIELDS
  local url, snap, raft_sensor, content, snaps = ARGV[first], ARGV[first + 3], ARGV[first + 4], ARGV[first + 6], ARGV[first + 7]
  local known = redis.pcall('GET', key)
  if type(known) ~= 'string' or age(known) <= age(url) then
    redis.call('SET', key, url, 'PX', ARGV[1])
  end
  local field = snap .. ':' .. raft_sensor .. ':' .. ARGV[first + 5]
  local old = use('HGET', group, field)
  -- A version that is recorded again has not arrived again.
  if not old or string.match(old, '^%S+ %S+ (.*)$') ~= content then
    local cursor = use('XADD', stream, 'MAXLEN', '~', ARGV[2], '*', 'instrument', ARGV[first + 1], 'group', ARGV[first + 2],
      'snap', snap, 'raft_sensor', raft_sensor)
    redis.call('HSET', group, field, cursor .. ' ' .. time .. ' ' .. content)
  end
  if snaps ~= '' then
    redis.call('HSET', group, 'expected_snaps', snaps)
  end
  redis.call('PEXPIRE', group, ARGV[1])
end
