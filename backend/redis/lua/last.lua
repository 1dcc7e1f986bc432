-- The common case of a release, before anything else is read: the lease is the
-- lock's only one, this is its only hold, and nobody waits. Everything else
-- falls through to the general text, which decides the same.
do
  local clock = redis.call('TIME')
  local rec = redis.call('HMGET', KEYS[1], 'f', 'h')
  if rec[1] == '1' and rec[2] and ARGV[6] ~= '' and redis.call('ZCARD', KEYS[2]) == 0 then
    local token, key, attach, expires, inbox, holds = string.match(rec[2],
      '^(%d+)\31(%x+)\31(%d+)\31(%d+)\31%d+\31s?\31([^\31]*)\31[^\31]*\31[^\31]*\31\29([^\29\30]*)\29\30$')
    local now = clock[1] * 1000000 + clock[2]
    if token == ARGV[4] and key == ARGV[3] and (ARGV[5] == attach or ARGV[5] == '0' and inbox == ARGV[7]) and holds == ARGV[6]
      and tonumber(expires) > now then
      redis.call('HSET', KEYS[1], 'h', '')
      redis.call('HSET', KEYS[6], ARGV[8], string.format('%016.0f%016.0f%sx', now, token, string.sub(key, 1, 24)))
      redis.call('PEXPIREAT', KEYS[6], math.floor((now + ARGV[2]) / 1000))
      redis.call('ZREM', KEYS[5], ARGV[1])
      if redis.call('HLEN', KEYS[6]) > 48 then trim_ends() end
      return {'released', 0}
    end
  end
end
