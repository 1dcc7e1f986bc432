-- The common case of an acquire, before anything else is read: nobody holds the
-- lock, nobody waits, and the request has not ended before. Everything else
-- falls through to the general text, which decides the same.
if not sealed then
  local rec = redis.call('HMGET', KEYS[1], 'f', 't', 'h', 'q', 'x', ARGV[4], ARGV[18])
  if (not rec[1] or rec[1] == '1') and (not rec[3] or rec[3] == '') and not rec[6] and not rec[7]
    and (rec[4] == '0' or not rec[4] and redis.call('ZCARD', KEYS[2]) == 0) then
    local token = math.max((rec[2] or 0) + 1, tonumber(ARGV[14]))
    if now < 4503599627370496 and now > token then token = now end
    local expires = now + ARGV[7]
    -- Text is cheaper to pass to a command than a number.
    local t, e = string.format('%.0f', token), string.format('%.0f', expires)
    local blob = t .. '\31' .. ARGV[6] .. '\0311\31' .. e .. '\31' .. ARGV[7] .. (ARGV[8] == '1' and '\31s\31' or '\31\31')
      .. ARGV[16] .. '\31' .. ARGV[5] .. '\31' .. ARGV[15] .. '\31\29' .. ARGV[3] .. '\29\30'
    local keep = keep_for(rec[5], math.max(token, expires), tonumber(ARGV[2]))
    if keep then
      redis.call('HSET', KEYS[1], 'f', '1', 'q', '0', 't', t, 'h', blob, 'x', keep)
      redis.call('PEXPIREAT', KEYS[1], keep)
    else
      redis.call('HSET', KEYS[1], 't', t, 'h', blob)
    end
    redis.call('ZADD', KEYS[5], e, ARGV[1])
    if now % 16 == 0 then sweep(now) end
    return {'granted', token, expires, now}
  end
end
