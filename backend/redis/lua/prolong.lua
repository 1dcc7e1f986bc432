-- Renews a lease, or adopts it where adopts says so.
-- ARGV  3 key, 4 token, 5 attach number or 0, 6 ttl µs, 7 inbox
local h, answer = find(ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]))
if h and h.revoked then h, answer = nil, {'lost', 'forced'} end
if not h then
  save()
  return answer
end
if adopts then
  if sealed then save() return {'sealed', stamp, now} end
  tell(h)
  h.attach, h.inbox = h.attach + 1, ARGV[7]
end
h.ttl = tonumber(ARGV[6])
h.expires = math.max(h.expires, now + h.ttl)
dirty = true
save()
return lease(h)
