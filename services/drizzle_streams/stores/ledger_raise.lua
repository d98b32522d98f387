-- Raise the fence: generation := max(generation, at_least) + 1. Returns {1, it}, or {0, the fence}
-- where a condition does not hold.
-- KEYS: fence (hash: generation, raised_by, writer, sequence, term), lease (hash: holder, …).
-- ARGV: at_least, call id, the generation that must be the newest or '', who must have the lease or ''.
-- The call id makes a repetition of the latest raise return what it returned before.
local generation = tonumber(redis.call('HGET', KEYS[1], 'generation') or '0')
if redis.call('HGET', KEYS[1], 'raised_by') == ARGV[2] then
  return {1, generation}
end
if ARGV[3] ~= '' and generation ~= tonumber(ARGV[3]) then
  return {0, generation}
end
if ARGV[4] ~= '' and redis.call('HGET', KEYS[2], 'holder') ~= ARGV[4] then
  return {0, generation}
end
generation = math.max(generation, tonumber(ARGV[1])) + 1
redis.call('HSET', KEYS[1], 'generation', generation, 'raised_by', ARGV[2])
return {1, generation}
