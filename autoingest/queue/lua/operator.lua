-- Part of the scripts of operators.
-- Include: common

-- Record in the operators' log who did what to which paths.
local function note(log, most, who, act, bucket, paths)
  if #paths > 0 then
    use('XADD', log, 'MAXLEN', '~', most, '*', 'who', who, 'act', act, 'bucket', bucket, 'number', #paths,
      'paths', table.concat(paths, '\n', 1, math.min(#paths, 10)))
  end
end
