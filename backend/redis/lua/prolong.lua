-- Renews a lease, or adopts it where adopts says so.
-- ARGV  4 key, 5 token, 6 attach number or 0, 7 ttl µs
local h, answer = find(ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6]))
if h and h.revoked then h, answer = nil, {'lost', 'forced'} end
if not h then
  save()
  return answer
end
if adopts then
  if sealed then save() return {'sealed', stamp, now} end
  tell(h)
  h.attach, h.inbox = h.attach + 1, ARGV[3]
end
h.ttl = tonumber(ARGV[7])
h.expires = math.max(h.expires, now + h.ttl)
dirty = true
save()
return lease(h)
