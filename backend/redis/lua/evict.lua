-- Ends or revokes the lease that has the token.
-- ARGV  3 token, 4 cause: e (only if expired), f, d, or r to revoke
local token = tonumber(ARGV[3])
local h = with_token(token)
if not h then
  save()
  if ARGV[4] == 'e' then
    for expired, shared, owner in string.gmatch(evicted, '(%d+)\31(%d)\31([^\30]*)\30') do
      if tonumber(expired) == token then return {'ended', owner, shared} end
    end
  end
  local code = end_of(string.format('%016.0f', token))
  if code then return {'lost', cause_of(code)} end
  if holders[1] then return {'stale', holders[1].token} end
  return {'lost', 'unknown'}
end
if ARGV[4] == 'e' then
  save()
  return {'held', '', qlen, write_holder(h), now, evicted}
end
tell(h)
if ARGV[4] == 'r' then
  h.revoked, dirty = true, true
  save()
  return {'holder', write_holder(h), now}
end
end_holds(h, ARGV[4])
remove(h)
save()
return {'ended', h.owner, h.shared and '1' or '0'}
