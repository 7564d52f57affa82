-- Beginning of every script that writes.
-- Constants: SET_ASIDE

-- Call a command. A key of the wrong type is not ours: it is set aside, and the command finds no key.
local function use(command, key, ...)
  local reply = redis.pcall(command, key, ...)
  if type(reply) == 'table' and reply.err then
    if string.find(reply.err, 'WRONGTYPE', 1, true) then
      redis.call('RENAME', key, SET_ASIDE .. key)
    end
    return redis.call(command, key, ...)
  end
  return reply
end

-- The table in a JSON text, without numbers that are infinite, huge or NaN; empty for any other text.
local function decoded(text)
  local good, value = pcall(cjson.decode, text)
  local result = {}
  for name, item in pairs(good and type(value) == 'table' and value or {}) do
    if type(item) ~= 'number' or (item == item and math.abs(item) < 1e15) then
      result[name] = item
    end
  end
  return result
end
