-- KEYS: queue, waiting, dead letters, leaseholders
-- ARGV: (head), prefix of the workers' lists, number of the workers that had a list, their names, paths
-- Result: for each path its record, and its places
-- Include: common, record

local first, names, known, result = 6 + ARGV[5], {}, {}, {}
for i = 6, first - 1 do
  names[i - 5], known[ARGV[i]] = ARGV[i], true
end
for i = first, #ARGV do
  local path = ARGV[i]
  local file, places = record(path), {}
  for _ in ipairs(try('LPOS', KEYS[1], path, 'COUNT', 2) or {}) do
    places[#places + 1] = 'queued'
  end
  -- A worker's list may have been created since the names were collected.
  if file[2] ~= '' and not known[file[2]] then
    names[#names + 1], known[file[2]] = file[2], true
  end
  for _, name in ipairs(names) do
    local mine = file[1] == '' or (file[1] == 'working' and file[2] == name)
    if mine or try('SISMEMBER', KEYS[4], name) ~= 1 then
      for _ in ipairs(try('LPOS', ARGV[4] .. name, path, 'COUNT', 2) or {}) do
        places[#places + 1] = 'working: ' .. name
      end
    end
  end
  if try('ZSCORE', KEYS[2], path) then
    places[#places + 1] = 'waiting'
  end
  if try('HEXISTS', KEYS[3], path) == 1 then
    places[#places + 1] = 'dead'
  end
  result[i - first + 1] = {file, places}
end
return result
