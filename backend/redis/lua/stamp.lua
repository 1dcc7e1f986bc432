-- Stamps a shard, unless its stamp is right or tells of another longest TTL.
-- KEYS  1 the shard's stamp
-- ARGV  1 start that the stamp must have, 2 µs until it opens, 3 whether the
--       store is new: only a shard without a stamp gets one, 4 longest TTL, µs
local stamp = redis.call('GET', KEYS[1]) or ''
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local longest = string.match(stamp, '^%x* (%d+) %d+$')
if stamp == '' or ARGV[3] ~= '1' and string.sub(stamp, 1, #ARGV[1]) ~= ARGV[1] and (not longest or longest == ARGV[4]) then
  stamp = ARGV[1] .. string.format('%.0f', now + ARGV[2])
  redis.call('SET', KEYS[1], stamp)
  return {'new', stamp, now}
end
return {'old', stamp, now}
