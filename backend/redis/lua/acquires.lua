-- KEYS  five of each lock and its shard's stamp
-- ARGV  1 retention, 2 inbox, 3 poll, 4 places for a priority, 5 the start that a
--       stamp must have, then eleven of each lock: ARGV 1 and 6 to 15 above
local replies = {now}
for i = 1, #all / 6 do
  local done, reply = pcall(one, 6 * (i - 1), 5 + 11 * (i - 1))
  replies[i + 1] = (done or type(reply) == 'table') and reply or {err = reply}
end
return replies
