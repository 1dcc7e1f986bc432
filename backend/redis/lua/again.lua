-- Takes an end that nobody has told yet, to report it again: one taker gets it.
-- KEYS  5 the shard's index
-- ARGV  4 the end, 5 µs after which the next may take it
local due = redis.call('ZSCORE', KEYS[5], ARGV[4])
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
if not due or tonumber(due) > now then return {'taken'} end
redis.call('ZADD', KEYS[5], now + ARGV[5], ARGV[4])
return {'again'}
