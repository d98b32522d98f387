-- Write the rows of some tokens, in order, each only if it was not written before. One atomic step.
-- KEYS: tokens (hash), windows (sorted set), keys (set).
-- ARGV: prefix, then per token: scope, batch, field names, number of chunks, chunks of rows; see
-- redis_rows.py for their form. Returns per token 1 for written, 0 for skipped.
local prefix = ARGV[1] .. ':'
local now = redis.call('TIME')
local updated = string.format('%d', now[1] * 1000 + math.floor(now[2] / 1000))

local function set_sparse(row, fields, columns, i)
  local present, absent = { 'updated_ms', updated }, {}
  for f = 1, #fields do
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

-- `full` holds the arguments for a row without nulls: only the values change from row to row.
local function set_row(row, fields, columns, i, full)
  for f = 1, #fields do
    local value = columns[f + 2][i]
    if not value then
      return set_sparse(row, fields, columns, i)
    end
    full[2 * f] = value
  end
  return redis.call('HSET', row, unpack(full))
end

local function write_chunk(fields, columns)
  local names, windows, full = columns[1], columns[2], {}
  for f = 1, #fields do
    full[2 * f - 1] = fields[f]
  end
  full[2 * #fields + 1] = 'updated_ms'
  full[2 * #fields + 2] = updated
  for i = 1, #names do
    local window = windows and windows[i]
    local row = prefix .. names[i]
    if window then
      row = row .. ':' .. window
    end
    if set_row(row, fields, columns, i, full) > 0 then -- new fields: it may be a new row, which gets its index entry
      if window then
        redis.call('ZADD', KEYS[2], window, window)
        redis.call('SADD', prefix .. 'window:' .. window, row)
      else
        redis.call('SADD', KEYS[3], row)
      end
    end
  end
end

local written = {}
local a = 2
while a <= #ARGV do
  local scope, batch, chunks = ARGV[a], ARGV[a + 1], tonumber(ARGV[a + 3])
  local last = tonumber(redis.call('HGET', KEYS[1], scope) or '-1')
  if last < tonumber(batch) then
    local fields = cmsgpack.unpack(ARGV[a + 2])
    for c = a + 4, a + 3 + chunks do
      write_chunk(fields, cmsgpack.unpack(ARGV[c]))
    end
    redis.call('HSET', KEYS[1], scope, batch)
    written[#written + 1] = 1
  else
    written[#written + 1] = 0
  end
  a = a + 4 + chunks
end
return written
