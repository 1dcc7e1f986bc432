-- Reads a lock: the last token, the living holders, the living waiters in order.
-- It writes nothing: what has run out is left to the next attempt.
local waiting = {}
for _, request in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  local data = redis.call('HGET', KEYS[3], request)
  if data then -- else the server lost a part of the place
    waiting[#waiting + 1] = request
    waiting[#waiting + 1] = data
    waiting[#waiting + 1] = redis.call('ZSCORE', KEYS[4], request) or '0'
  end
end
local blob = ''
for _, h in ipairs(holders) do blob = blob .. write_holder(h) end
return {'lock', last, now, blob, waiting}
