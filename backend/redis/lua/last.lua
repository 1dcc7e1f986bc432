-- The common case of a release, before anything else is read: the lease is the
-- lock's only one, this is its only hold, and nobody waits. Everything else
-- falls through to the general text, which decides the same.
local request = given[a + 5]
local rec = call('HMGET', all[k + 1], 'f', 'h', 'q')
if rec[1] == '1' and rec[2] and rec[3] == '0' and request ~= '' then
  local token, key, attach, expires, flag, inbox, owner, holds = string.match(rec[2],
    '^(%d+)\31(%x+)\31(%d+)\31(%d+)\31%d+\31(s?)\31([^\31]*)\31([^\31]*)\31[^\31]*\31\29([^\29\30]*)\29\30$')
  if token == given[a + 3] and key == given[a + 2] and (given[a + 4] == attach or given[a + 4] == '0' and inbox == given[2]) and holds == request
    and tonumber(expires) > now then
    call('HSET', all[k + 1], 'h', '', given[a + 6], text(padded, now) .. text(padded, token) .. string.sub(key, 1, 24) .. 'x')
    call('ZREM', all[k + 5], given[a + 1])
    if now % 8 == 0 then trim_ends(all[k + 1]) end
    return '\31' .. flag .. '\31' .. owner
  end
end
