-- Makes the caller the one that sweeps, or says for how long another one is.
-- KEYS  1 the name of the one that sweeps
-- ARGV  1 the caller, 2 ms for which it is elected
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local elected = redis.call('GET', KEYS[1])
if elected and elected ~= ARGV[1] then return {'other', redis.call('PTTL', KEYS[1])} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {'elected', now}
