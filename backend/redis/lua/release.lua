-- Ends one hold.
-- ARGV  3 key, 4 token, 5 attach number or 0, 6 request id or '', 7 inbox, 8 the request id's hash
local h, answer, released = find(ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]))
if not h then
  save()
  if answer[1] == 'lost' and not with_token(holders, tonumber(ARGV[4])) then
    -- The hold may have been released before its lease ended otherwise.
    local own = redis.call('HGET', KEYS[6], ARGV[8])
    released = released or own and string.sub(own, 57, 57) == 'x'
      and string.sub(own, 17, 56) == string.format('%016.0f', ARGV[4]) .. string.sub(ARGV[3], 1, 24)
  end
  if released then return {'released', 0} end
  return answer
end
local request = ARGV[6]
if request == '' then
  if count_holds(h) > 1 then
    save()
    return {'ambiguous'}
  end
  request = string.match(h.holds, '[^\29]+')
end
drop_hold(h, request)
local left = count_holds(h)
-- The releaser's own sidecar knows; another one that renews the lease is told.
if left == 0 and ARGV[5] == '0' and h.inbox ~= ARGV[7] then tell(h) end
save()
return {'released', left}
