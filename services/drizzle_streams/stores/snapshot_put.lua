-- Store one part if its generation is not over. Returns -1 when done, else the fence.
-- KEYS: fences (hash by job), parts (hash by name), written (hash: name to generation).
-- ARGV: job, generation, name, bytes. Without a name only the fence is raised.
local fence = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0')
local generation = tonumber(ARGV[2])
if fence > generation then
  return fence
end
if fence < generation then
  redis.call('HSET', KEYS[1], ARGV[1], generation)
end
if ARGV[3] then
  redis.call('HSET', KEYS[2], ARGV[3], ARGV[4])
  redis.call('HSET', KEYS[3], ARGV[3], generation)
end
return -1
