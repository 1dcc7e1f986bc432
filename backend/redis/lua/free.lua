-- The common case of an acquire, before anything else is read: nobody holds the
-- lock, nobody waits, and the request has not ended before. Everything else
-- falls through to the general text, which decides the same.
do
  local clock = redis.call('TIME')
  local rec = redis.call('HMGET', KEYS[1], 'f', 't', 'h')
  if (not rec[1] or rec[1] == '1') and (not rec[3] or rec[3] == '') and redis.call('ZCARD', KEYS[2]) == 0
    and not redis.call('HGET', KEYS[6], ARGV[4]) then
    local now = clock[1] * 1000000 + clock[2]
    local token = math.max((rec[2] or 0) + 1, tonumber(ARGV[14]))
    if now < 4503599627370496 and now > token then token = now end
    local expires = now + ARGV[7]
    redis.call('HSET', KEYS[1], 'f', '1', 't', token, 'h', string.format('%.0f\31%s\0311\31%.0f\31%s\31%s\31%s\31%s\31%s\31\29%s\29\30',
      token, ARGV[6], expires, ARGV[7], ARGV[8] == '1' and 's' or '', ARGV[16], ARGV[5], ARGV[15], ARGV[3]))
    redis.call('PEXPIREAT', KEYS[1], math.floor((math.max(token, expires) + ARGV[2]) / 1000) + 1)
    redis.call('ZADD', KEYS[5], expires, ARGV[1])
    if now % 16 == 0 then sweep(now) end
    return {'granted', token, expires, now}
  end
end
