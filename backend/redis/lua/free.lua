-- The common case of an acquire, before anything else is read: nobody holds the
-- lock, nobody waits, and the request has not ended before. Everything else
-- falls through to the general text, which decides the same.
if not sealed then
  local record = all[k + 1]
  local rec = call('HMGET', record, 'f', 't', 'h', 'q', 'x', given[a + 3], given[a + 11])
  if (not rec[1] or rec[1] == '1') and (not rec[3] or rec[3] == '') and not rec[6] and not rec[7]
    and (rec[4] == '0' or not rec[4] and call('ZCARD', all[k + 2]) == 0) then
    local token = math.max((rec[2] or 0) + 1, tonumber(given[a + 9]))
    if now < 4503599627370496 and now > token then token = now end
    local ttl = given[a + 6]
    local expires = now + ttl
    -- Text is cheaper to pass to a command than a number.
    local t, e = text(whole, token), text(whole, expires)
    local blob = t .. '\31' .. given[a + 5] .. '\0311\31' .. e .. '\31' .. ttl .. (string.sub(given[a + 7], 1, 1) == '1' and '\31s\31' or '\31\31')
      .. given[2] .. '\31' .. given[a + 4] .. '\31' .. given[a + 10] .. '\31\29' .. given[a + 2] .. '\29\30'
    local keep = keep_for(rec[5], math.max(token, expires), tonumber(given[1]))
    if keep then
      call('HSET', record, 'f', '1', 'q', '0', 't', t, 'h', blob, 'x', keep)
      call('PEXPIREAT', record, keep)
    else
      call('HSET', record, 't', t, 'h', blob)
    end
    call('ZADD', all[k + 5], e, given[a + 1])
    if now % 16 == 0 then sweep(all[k + 5]) end
    return token
  end
end
