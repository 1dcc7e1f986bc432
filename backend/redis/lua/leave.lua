-- Drops what a request id has under a key: a place, or a hold; and leaves a
-- tombstone, unless the hold is another key's.
-- ARGV  4 request id, 5 the hash of both, 6 key or '' for any, 7 the hash of the
--       request id
local key = ARGV[6]
if qlen > 0 then
  local waiter = redis.call('HGET', KEYS[3], ARGV[4])
  if waiter and (key == '' or key_of(waiter) == string.sub(key, 1, 24)) then drop_places({ARGV[4]}) end
end
local h = with_hold(holders, ARGV[4])
if h and (key == '' or key == h.key) then
  drop_hold(h, ARGV[4], ARGV[5])
  if h.holds == '\29' and h.inbox ~= ARGV[3] then tell(h) end
elseif not h and not with_hold(expired, ARGV[4]) and not ended(ARGV[7], ARGV[5]) then
  remember(ARGV[5], 0, string.rep('-', 24), 'x')
end
save()
return {'left'}
