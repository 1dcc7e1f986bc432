-- Drops what a request id has under a key: a place, or a hold; and leaves a
-- tombstone, unless the hold is another key's.
-- ARGV  3 request id, 4 the hash of both, 5 inbox, 6 key or '' for any, 7 the
--       hash of the request id
local key = ARGV[6]
if qlen > 0 then
  local waiter = redis.call('HGET', KEYS[3], ARGV[3])
  if waiter and (key == '' or key_of(waiter) == string.sub(key, 1, 24)) then drop_places({ARGV[3]}) end
end
local h = with_hold(holders, ARGV[3])
if h and (key == '' or key == h.key) then
  drop_hold(h, ARGV[3], ARGV[4])
  if h.holds == '\29' and h.inbox ~= ARGV[5] then tell(h) end
elseif not h and not with_hold(expired, ARGV[3]) and not ended(ARGV[7], ARGV[4]) then
  remember(ARGV[4], 0, string.rep('-', 24), 'x')
end
save()
return {'left'}
