-- The leader's lease. KEYS: lease (string with a time to live). ARGV: verb, holder, ttl in ms.
-- Returns 1 if the holder has what it asked for.
local holder = redis.call('GET', KEYS[1])
if ARGV[1] == 'acquire' and (not holder or holder == ARGV[2]) then
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
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
