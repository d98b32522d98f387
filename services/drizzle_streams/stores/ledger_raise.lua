-- Raise the fence: generation := max(generation, at_least) + 1.
-- KEYS: fence (hash: generation, raised_by, writer, sequence). ARGV: at_least, call id.
-- The call id makes a repetition of the latest raise return what it returned before.
local generation = tonumber(redis.call('HGET', KEYS[1], 'generation') or '0')
if redis.call('HGET', KEYS[1], 'raised_by') == ARGV[2] then
  return generation
end
generation = math.max(generation, tonumber(ARGV[1])) + 1
redis.call('HSET', KEYS[1], 'generation', generation, 'raised_by', ARGV[2])
return generation
