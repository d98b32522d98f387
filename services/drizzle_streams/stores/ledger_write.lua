-- One atomic, fenced write. Returns -1 when done, else the fence that refuses it.
-- KEYS: fence (hash), ledger (hash). ARGV: generation, writer, sequence, number of puts, then
-- (name, value) per put, then one name per delete.
-- (writer, sequence) finds repetitions: a stale one, delayed on a broken connection, must not
-- undo what the same writer wrote after it.
local fence = tonumber(redis.call('HGET', KEYS[1], 'generation') or '0')
local generation, sequence, puts = tonumber(ARGV[1]), tonumber(ARGV[3]), tonumber(ARGV[4])
if fence > generation then
  return fence
end
local last = redis.call('HMGET', KEYS[1], 'writer', 'sequence')
if last[1] == ARGV[2] and tonumber(last[2]) >= sequence then
  return -1
end
redis.call('HSET', KEYS[1], 'generation', generation, 'writer', ARGV[2], 'sequence', sequence)
local deletes_from = 5 + 2 * puts
for i = 5, deletes_from - 1, 2 do
  redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
end
for i = deletes_from, #ARGV do
  redis.call('HDEL', KEYS[2], ARGV[i])
end
return -1
