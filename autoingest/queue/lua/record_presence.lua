-- KEYS: presence keys
-- ARGV: milliseconds for which they are kept, then the URL for each key
-- Result: nothing
-- Two exposures may have the same group, snap and detector. The URL of the newer exposure is kept, whichever comes
-- first.

local function age(url)
  local controller, day, number = string.match(url, '/%u%u_(%u)_(%d+)_(%d+)/[^/]*$')
  if not controller then
    return 0
  end
  return (tonumber(day) * 1000000 + tonumber(number)) * 10 + (string.find('OCHPQS', controller, 1, true) or 0)
end
for i, key in ipairs(KEYS) do
  local known = redis.pcall('GET', key)
  if type(known) ~= 'string' or age(known) <= age(ARGV[i + 1]) then
    redis.call('SET', key, ARGV[i + 1], 'PX', ARGV[1])
  end
end
