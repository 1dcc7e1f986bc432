-- Whether a lease may be granted: the shard's stamp must be that of the server
-- on which the caller's connection ends, and open.
-- stamp is the shard's: replication id, longest TTL and when it opens, both µs;
-- start is what it must start with.
stamp = stamp or ''
local opens = string.sub(stamp, 1, #start) == start and tonumber(string.sub(stamp, #start + 1))
local sealed = not opens or opens > now
