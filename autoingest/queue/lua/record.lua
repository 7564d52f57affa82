-- Constants: UNREADABLE

-- The result of a command; nothing if the key is of the wrong type.
local function try(...)
  local reply = redis.pcall(...)
  return not (type(reply) == 'table' and reply.err) and reply or nil
end

-- The record of a file: state, worker, recv_time, ingest_time, eTag, eTag in the Butler, 1 if there is an exception;
-- empty values if unknown.
local function record(path)
  local file = try('HMGET', FILE .. path, 'state', 'worker', 'recv_time', 'ingest_time', 'etag', 'ing_fail_exc',
    'md_fail_exc', 'butler_etag') or {UNREADABLE}
  local failed = (file[6] or file[7]) and '1' or ''
  return {file[1] or '', file[2] or '', file[3] or '', file[4] or '', file[5] or '', file[8] or '', failed}
end
