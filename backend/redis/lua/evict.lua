-- Ends or revokes the lease that has the token.
-- ARGV  4 token, 5 cause: e (only if expired), f, d, or r to revoke
local token, cause = tonumber(ARGV[4]), ARGV[5]
local h = with_token(expired, token)
if h then
  if cause == 'e' then
    -- Only this one is reported, so the other expired ones stay.
    end_holds(h, cause)
    untold(h, cause)
    for i, other in ipairs(expired) do
      if other == h then table.remove(expired, i) break end
    end
    moved = true
  end
  save()
  return cause == 'e' and {'ended', h.owner, h.shared and '1' or '0'} or {'lost', 'expired'}
end
h = with_token(holders, token)
if not h then
  save()
  local code = end_of(string.format('%016.0f', token))
  if code then return {'lost', cause_of(code)} end
  if holders[1] then return {'stale', holders[1].token} end
  return {'lost', 'unknown'}
end
if cause == 'e' then
  save()
  return {'held', '', qlen, write_holder(h), now}
end
tell(h)
if cause == 'r' then
  h.revoked, dirty = true, true
  save()
  return {'holder', write_holder(h), now}
end
end_holds(h, cause)
untold(h, cause)
remove(h)
save()
return {'ended', h.owner, h.shared and '1' or '0'}
