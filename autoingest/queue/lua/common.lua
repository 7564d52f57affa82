-- Beginning of the scripts that move files. ARGV 1: prefix of the files' keys; 2: seconds that a file's record is kept;
-- 3: worker's name, or empty.
-- Include: safe
-- Constants: TRUSTED

local FILE, KEEP, NAME = ARGV[1], ARGV[2], ARGV[3]

-- The server's time, epoch seconds with microseconds, as text.
local function now()
  local time = redis.call('TIME')
  return string.format('%d.%06d', time[1], time[2])
end

-- The error if this Redis user may not run one of some commands, or nothing. Without this check, a script could fail
-- halfway, again and again. Redis before version 7 can't check.
local function refused(commands)
  for _, command in ipairs(redis.acl_check_cmd and commands or {}) do
    if not redis.acl_check_cmd(unpack(command)) then
      return redis.error_reply('NOPERM this Redis user may not run ' .. command[1] .. ' on ' .. command[2])
    end
  end
end

-- Move a path from one list to another.
local function move(from, to, ...)
  use('LLEN', from)
  use('LLEN', to)
  redis.call('LMOVE', from, to, ...)
end

-- Add one to a count; a field that is not a number must not stop a file.
local function count(key, field)
  pcall(use, 'HINCRBY', key, field, 1)
end

-- Set fields of a file's record, and renew its time to live.
local function mark(path, ...)
  use('HSET', FILE .. path, ...)
  redis.call('EXPIRE', FILE .. path, KEEP)
end

-- Whether this worker may change a path on its list: not if the file was announced again since it was claimed. Then it
-- is on the queue again, or further on, and that copy decides.
local function owned(path)
  local file = use('HMGET', FILE .. path, 'state', 'worker')
  return not file[1] or (file[1] == 'working' and file[2] == NAME)
end

-- Queue a file again, because another version may have been written after its newest one.
local function again(queue, path)
  use('LPUSH', queue, path)
  use('HDEL', FILE .. path, 'size', 'claim', 'overtaken')
  mark(path, 'state', 'queued')
end

-- A worker has stopped working on a file that was announced again, and it is unknown whether and when it wrote its
-- version. So the newer version is queued once more, unless it has yet to be claimed.
local function doubt(queue, path)
  local file = use('HMGET', FILE .. path, 'state', 'worker')
  if file[1] == 'ingested' then
    again(queue, path)
  elseif file[1] == 'working' and file[2] ~= NAME then
    mark(path, 'overtaken', 'unknown')
  end
end

-- Whether a claim of a path is still valid. If the file was announced again, it is not: the entry on the list then
-- belongs to a later claim of this worker, or to none, and the next claim drops it.
local function holds(list, path, claim)
  local file = use('HMGET', FILE .. path, 'state', 'worker', 'claim')
  if file[1] and (file[1] ~= 'working' or file[2] ~= NAME or file[3] ~= claim) then
    return false
  end
  return use('LPOS', list, path)
end

-- An attempt to write a file has ended, and the process is alive. A suspect stays one until it is in the Butler, or the
-- Butler has processed it.
local function survived(path, acquitted)
  local record = FILE .. path
  use('HDEL', record, 'trials')
  if acquitted or not ((tonumber(use('HGET', record, 'tries')) or 0) > TRUSTED) then
    use('HDEL', record, 'tries')
  end
end

-- From waiting to the queue: RPUSH to its front, LPUSH to its back. Nothing happens if the file does not wait.
local function wake(path, waiting, waiting_for, queue, push)
  if not use('ZSCORE', waiting, path) then
    return
  end
  local obs_id = use('HGET', FILE .. path, 'waits_for')
  if obs_id then
    use('SREM', waiting_for .. obs_id, path)
    use('HDEL', FILE .. path, 'waits_for')
  end
  use(push, queue, path)
  mark(path, 'state', 'queued')
  use('ZREM', waiting, path)
end
