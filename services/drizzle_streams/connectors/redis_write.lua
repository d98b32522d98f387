-- Write the rows of one token and advance it, or do nothing: one atomic step.
-- KEYS: tokens (hash), windows (sorted set), keys (set).
-- ARGV: scope of the token, batch, the batch of the same scope that must be written before (or
-- ''), prefix, field names, then chunks of rows; see redis_rows.py for their form.
-- Returns 1 written, 0 skipped because it was written before, -1 refused because of `before`:
-- an earlier command of the same pipeline failed, and advancing past it would lose its rows.
local token = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '-1')
local batch, before = tonumber(ARGV[2]), tonumber(ARGV[3])
if token >= batch then
  return 0
end
if before and token < before then
  return -1
end

local prefix = ARGV[4] .. ':'
local fields = cmsgpack.unpack(ARGV[5])
local count = #fields
local now = redis.call('TIME')
local updated = string.format('%d', now[1] * 1000 + math.floor(now[2] / 1000))

local full = {} -- arguments of HSET for a row without nulls; only the values change
for f = 1, count do
  full[2 * f - 1] = fields[f]
end
full[2 * count + 1] = 'updated_ms'
full[2 * count + 2] = updated

local function set_sparse(row, columns, i)
  local present, absent = { 'updated_ms', updated }, {}
  for f = 1, count do
    local value = columns[f + 2][i]
    if value then
      present[#present + 1] = fields[f]
      present[#present + 1] = value
    else
      absent[#absent + 1] = fields[f]
    end
  end
  redis.call('HDEL', row, unpack(absent))
  return redis.call('HSET', row, unpack(present))
end

local function set_row(row, columns, i)
  for f = 1, count do
    local value = columns[f + 2][i]
    if not value then
      return set_sparse(row, columns, i)
    end
    full[2 * f] = value
  end
  return redis.call('HSET', row, unpack(full))
end

for c = 6, #ARGV do
  local columns = cmsgpack.unpack(ARGV[c])
  local names, windows = columns[1], columns[2]
  for i = 1, #names do
    local row = prefix .. names[i]
    if set_row(row, columns, i) > 0 then -- new fields: the row may be new, so it gets its index entry
      if windows then
        redis.call('ZADD', KEYS[2], windows[i], windows[i])
        redis.call('SADD', prefix .. 'window:' .. windows[i], row)
      else
        redis.call('SADD', KEYS[3], row)
      end
    end
  end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
