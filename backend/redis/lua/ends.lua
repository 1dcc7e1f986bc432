local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]

-- trim_ends forgets all but the 16 latest ends, once there are more than 48. They
-- stand in the record beside fields of one letter.
local function trim_ends(record)
  if redis.call('HLEN', record) <= 54 then return end
  local all = redis.call('HGETALL', record)
  local order = {}
  for i = 1, #all, 2 do
    if #all[i] == 32 then order[#order + 1] = i end
  end
  if #order <= 48 then return end
  table.sort(order, function(a, b) return all[a + 1] > all[b + 1] end)
  for from = 17, #order, 1000 do
    local gone = {}
    for i = from, math.min(from + 999, #order) do gone[#gone + 1] = all[order[i]] end
    redis.call('HDEL', record, unpack(gone))
  end
end

-- keep_for says until when, in ms, a record that must stand until a moment (µs)
-- is to be kept, or nothing if it is already kept for about as long: the server
-- is told an eighth of the retention more, and so once for many writes.
local function keep_for(kept, moment, retention)
  local least = math.floor((moment + retention) / 1000) + 1
  local slack = math.floor(retention / 8000)
  kept = tonumber(kept or 0)
  if kept < least or kept > least + 2 * slack then return least + slack end
end

-- sweep forgets, in the shard's index, locks that nobody has looked at since
-- their leases and places ran out: nothing of them can stand two hours later.
-- With them go ends that nobody has come for.
local function sweep(index) redis.call('ZREMRANGEBYSCORE', index, '-inf', now - 7200000000) end
