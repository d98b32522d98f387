-- Append the letters that are not there yet, in order. One atomic step.
-- KEYS: letters (stream), marks of the run's letters (sorted set, scored by batch).
-- ARGV: letters kept, seconds that marks are kept, then per letter: mark, batch, stage, partition, offset, reason,
-- record. Returns how many were appended.
local kept, seconds = tonumber(ARGV[1]), ARGV[2]
local oldest = -1
if redis.call('ZCARD', KEYS[2]) >= kept then
  oldest = tonumber(redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2])
end
local appended = 0
for a = 3, #ARGV, 7 do
  -- A batch before the oldest mark was written, and its marks have gone with their letters.
  if tonumber(ARGV[a + 1]) >= oldest and redis.call('ZADD', KEYS[2], 'NX', ARGV[a + 1], ARGV[a]) == 1 then
    redis.call('XADD', KEYS[1], 'MAXLEN', '~', kept, '*', 'batch', ARGV[a + 1], 'stage', ARGV[a + 2],
      'partition', ARGV[a + 3], 'offset', ARGV[a + 4], 'reason', ARGV[a + 5], 'record', ARGV[a + 6])
    appended = appended + 1
  end
end
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -kept - 1)
redis.call('EXPIRE', KEYS[2], seconds)
return appended
