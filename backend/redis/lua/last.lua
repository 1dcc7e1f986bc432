-- The common case of a release, before anything else is read: the lease is the
-- lock's only one, this is its only hold, and nobody waits. Everything else
-- falls through to the general text, which decides the same.
do
  local rec = redis.call('HMGET', KEYS[1], 'f', 'h', 'q')
  if rec[1] == '1' and rec[2] and rec[3] == '0' and ARGV[6] ~= '' then
    local token, key, attach, expires, flag, inbox, owner, holds = string.match(rec[2],
      '^(%d+)\31(%x+)\31(%d+)\31(%d+)\31%d+\31(s?)\31([^\31]*)\31([^\31]*)\31[^\31]*\31\29([^\29\30]*)\29\30$')
    local clock = redis.call('TIME')
    local now = clock[1] * 1000000 + clock[2]
    if token == ARGV[4] and key == ARGV[3] and (ARGV[5] == attach or ARGV[5] == '0' and inbox == ARGV[7]) and holds == ARGV[6]
      and tonumber(expires) > now then
      redis.call('HSET', KEYS[1], 'h', '', ARGV[8], string.format('%016.0f%016.0f%sx', now, token, string.sub(key, 1, 24)))
      redis.call('ZREM', KEYS[5], ARGV[1])
      if now % 8 == 0 then trim_ends() end
      return {'released', 0, owner, flag == 's' and 1 or 0}
    end
  end
end
