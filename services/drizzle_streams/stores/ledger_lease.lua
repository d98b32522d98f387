-- The leader's lease. KEYS: lease (hash with a time to live: holder, address, term), fence (hash).
-- ARGV: verb, holder, ttl in ms, address. Returns 1 if the holder has what it asked for.
-- The term is the time in ms, or one more than the last where that is more: it grows through a clock
-- that is set back, and also where this Redis has lost what it held.
local holder = redis.call('HGET', KEYS[1], 'holder')
if ARGV[1] == 'acquire' and (not holder or holder == ARGV[2]) then
  local now = redis.call('TIME')
  local last = tonumber(redis.call('HGET', KEYS[2], 'term') or '0')
  local term = math.max(now[1] * 1000 + math.floor(now[2] / 1000), last + 1)
  redis.call('HSET', KEYS[2], 'term', term)
  redis.call('HSET', KEYS[1], 'holder', ARGV[2], 'address', ARGV[4], 'term', term)
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  return 1
end
if holder ~= ARGV[2] then
  return 0
end
if ARGV[1] == 'renew' then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
elseif ARGV[1] == 'release' then
  redis.call('DEL', KEYS[1])
end
return 1
