-- trim_ends forgets all but the 16 latest ends, once there are more than 48.
local function trim_ends()
  local all = redis.call('HGETALL', KEYS[6])
  local latest = {}
  for i = 2, #all, 2 do latest[#latest + 1] = all[i] end
  table.sort(latest)
  local oldest = latest[#latest - 15]
  local gone = {}
  for i = 1, #all, 2 do
    if all[i + 1] < oldest then gone[#gone + 1] = all[i] end
  end
  redis.call('HDEL', KEYS[6], unpack(gone))
end
