-- Renews or adopts a lease.
-- ARGV  3 key, 4 token, 5 attach number or 0, 6 ttl µs, 7 adopt, 8 inbox
local h, answer = find(ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]))
if h and h.revoked then h, answer = nil, {'lost', 'forced'} end
if not h then
  save()
  return answer
end
if ARGV[7] == '1' then
  tell(h)
  h.attach, h.inbox = h.attach + 1, ARGV[8]
end
h.ttl = tonumber(ARGV[6])
h.expires = math.max(h.expires, now + h.ttl)
dirty = true
save()
return lease(h)
