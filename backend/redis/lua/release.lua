-- Ends one hold.
-- ARGV  4 key, 5 token, 6 attach number or 0, 7 request id or '', 8 the hash of the
--       request id, 9 that of both
local h, answer, released = find(ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6]))
if not h then
  save()
  if answer[1] == 'lost' and not with_token(holders, tonumber(ARGV[5])) then
    -- The hold may have been released before its lease ended otherwise.
    local proof = string.format('%016.0f', ARGV[5]) .. string.sub(ARGV[4], 1, 24) .. 'x'
    local own = redis.call('HMGET', KEYS[1], ARGV[8], ARGV[9])
    for i = 1, 2 do released = released or own[i] and string.sub(own[i], 17) == proof end
  end
  if released then return {'released', 0} end
  return answer
end
local request = ARGV[7]
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
if left == 0 and ARGV[6] == '0' and h.inbox ~= ARGV[3] then tell(h) end
save()
return {'released', left, h.owner, h.shared and 1 or 0}
