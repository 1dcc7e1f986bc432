-- Whether a lease may be granted: the shard's stamp must be that of the server
-- on which the caller's connection ends, and open.
-- KEYS  6 the shard's stamp: replication id, longest TTL and when it opens, both µs
-- ARGV  the last one: the start that the stamp must have
local stamp, start = redis.call('GET', KEYS[6]) or '', ARGV[#ARGV]
local opens = string.sub(stamp, 1, #start) == start and tonumber(string.sub(stamp, #start + 1))
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local sealed = not opens or opens > now
