-- Drops or moves the place that has a ticket.
-- ARGV  4 ticket, 5 the place's priority from now on, or '' to drop it, 6 places for
--       a priority
local request, data
for _, one in ipairs(qlen > 0 and redis.call('ZRANGE', KEYS[2], 0, -1) or {}) do
  local d = redis.call('HGET', KEYS[3], one)
  if d and string.match(d, '^(%d+)\31') == ARGV[4] then
    request, data = one, d
    break
  end
end
if not request then
  save()
  return {'noplace'}
end
local deadline = redis.call('ZSCORE', KEYS[4], request)
local rank = redis.call('ZRANK', KEYS[2], request)
if ARGV[5] == '' then
  drop_places({request})
  remember(string.sub(redis.sha1hex(request), 1, 32), 0, string.rep('-', 24), 'f')
else
  local priority = tonumber(ARGV[5])
  redis.call('ZADD', KEYS[2], (tonumber(ARGV[4]) - priority * ARGV[6]) * 16 + priority, request)
  data = (string.gsub(data, '^(%d+\31)%d+', function(ticket) return ticket .. ARGV[5] end))
  redis.call('HSET', KEYS[3], request, data)
  rank = redis.call('ZRANK', KEYS[2], request)
  dirty, moved = true, true
end
save()
hint(string.match(data, '^%d+\31%d+\31%d\31([^\31]*)'), 'g\31' .. id .. '\31' .. request)
return {'place', now, rank + 1, request, data, deadline}
