-- KEYS  five of each lock
-- ARGV  1 retention, 2 inbox, then seven of each lock: ARGV 1 and 4 to 9 above
local replies = {now}
for i = 1, #all / 5 do
  local done, reply = pcall(one, 5 * (i - 1), 2 + 7 * (i - 1))
  replies[i + 1] = (done or type(reply) == 'table') and reply or {err = reply}
end
return replies
