-- Drops what a request id has: a place, or a hold; else leaves a tombstone.
-- ARGV  3 request id, 4 its hash, 5 inbox
local h = with_hold(holders, ARGV[3])
if qlen > 0 and redis.call('ZSCORE', KEYS[2], ARGV[3]) then
  drop_places({ARGV[3]})
elseif h then
  drop_hold(h, ARGV[3])
  if h.holds == '\29' and h.inbox ~= ARGV[5] then tell(h) end
elseif not with_hold(expired, ARGV[3]) and redis.call('HEXISTS', KEYS[6], ARGV[4]) == 0 then
  remember(ARGV[4], 0, string.rep('-', 24), 'x')
end
save()
return {'left'}
