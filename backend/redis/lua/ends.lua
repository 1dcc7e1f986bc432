-- trim_ends forgets all but the 16 latest ends, once there are more than 48.
local function trim_ends()
  local all = redis.call('HGETALL', KEYS[6])
  local order = {}
  for i = 1, #all, 2 do order[#order + 1] = i end
  table.sort(order, function(a, b) return all[a + 1] > all[b + 1] end)
  for from = 17, #order, 1000 do
    local gone = {}
    for i = from, math.min(from + 999, #order) do gone[#gone + 1] = all[order[i]] end
    redis.call('HDEL', KEYS[6], unpack(gone))
  end
end

-- sweep forgets, in the shard's index, locks that nobody has looked at since
-- their leases and places ran out: nothing of them can stand two hours later.
local function sweep(now) redis.call('ZREMRANGEBYSCORE', KEYS[5], '-inf', now - 7200000000) end
