-- One attempt at a lock.
-- ARGV  4 poll µs, 5 places for a priority, 6 request id, 7 its hash, 8 owner, 9 key,
--       10 ttl µs, 11 four digits: shared, reentrant, enqueue, priority, 12 place
--       ttl µs, 13 token floor, 14 metadata, 15 the hash of request id and key
local request, owner, key, ttl = ARGV[6], ARGV[8], ARGV[9], tonumber(ARGV[10])
local mode, reenters, waits, priority = string.match(ARGV[11], '(.)(.)(.)(.)')
local shared, enqueue = mode == '1', waits == '1'

local h = with_hold(holders, request)
if h then
  if h.revoked then save() return {'lost', 'forced'} end
  if sealed then save() return {'sealed', stamp, now} end
  if h.key ~= key then
    if h.inbox ~= ARGV[3] then tell(h) end
    h.key, h.inbox, h.attach, dirty = key, ARGV[3], h.attach + 1, true
  end
  evict()
  save()
  return lease(h)
end

if with_hold(expired, request) then
  save()
  return {'lost', 'expired'}
end
local over = ended(ARGV[7], ARGV[15])
if over then
  save()
  return {'lost', cause_of(string.sub(over, 57, 57))}
end

for _, other in ipairs(holders) do
  if other.owner == owner then
    -- A place that the request took before would only keep others waiting.
    if qlen > 0 and redis.call('ZSCORE', KEYS[2], request) then drop_places({request}) end
    if reenters ~= '1' or other.key ~= key or other.shared ~= shared or other.revoked then
      save()
      return {'held', other.shared ~= shared and 'mode' or 'self', qlen, write_holder(other), now}
    end
    if sealed then save() return {'sealed', stamp, now} end
    other.holds, dirty = other.holds .. request .. '\29', true
    other.ttl = math.max(other.ttl, ttl)
    other.expires = math.max(other.expires, now + other.ttl)
    evict()
    save()
    return lease(other)
  end
end

local placed = qlen > 0 and redis.call('ZSCORE', KEYS[2], request)

local function place()
  local ticket = redis.call('HINCRBY', KEYS[1], 's', 1)
  redis.call('ZADD', KEYS[2], (ticket - priority * ARGV[5]) * 16 + priority, request)
  redis.call('HSET', KEYS[3], request, int(ticket) .. '\31' .. priority .. '\31' .. mode .. '\31' .. ARGV[3] .. '\31' .. string.sub(key, 1, 24) .. '\31' .. owner)
  qlen, placed, dirty = qlen + 1, true, true
end

-- first says whether no living waiter stands before the request's place.
local function first()
  local rank = redis.call('ZRANK', KEYS[2], request)
  if rank == 0 then return true end
  if not shared or not admits(true) then return false end
  for from = 0, rank - 1, 500 do
    local before = redis.call('ZRANGE', KEYS[2], from, math.min(from + 499, rank - 1))
    for _, data in ipairs(redis.call('HMGET', KEYS[3], unpack(before))) do
      if not is_shared(data) then return false end
    end
  end
  return true
end

local free = qlen == 0
if placed then
  free = first()
elseif qlen > 0 and enqueue then
  place() -- a newcomer is ordered among the living before it can be granted
  free = first()
end

if free and admits(shared) and not sealed then
  local ticket
  if placed then
    ticket = tonumber(string.match(redis.call('HGET', KEYS[3], request) or '', '^%d+'))
    redis.call('ZREM', KEYS[2], request)
    redis.call('HDEL', KEYS[3], request)
    redis.call('ZREM', KEYS[4], request)
    qlen = qlen - 1
  end
  last = math.max(last + 1, tonumber(ARGV[13]))
  -- A clock of 2^52 µs or more is not believed.
  if now < 4503599627370496 and now > last then last = now end
  h = {token = last, key = key, attach = 1, expires = now + ttl, ttl = ttl, shared = shared, revoked = false,
    inbox = ARGV[3], owner = owner, meta = ARGV[14], holds = '\29' .. request .. '\29'}
  holders[#holders + 1] = h
  dirty = true
  evict()
  save()
  return lease(h, ticket)
end

if not enqueue then
  if placed then drop_places({request}) end
  save()
  if free and admits(shared) then return {'sealed', stamp, now} end
  return {'held', '', qlen, holder(), now}
end

if not placed then place() end
redis.call('ZADD', KEYS[4], now + ARGV[12], request)
local held = redis.call('HGET', KEYS[3], request)
redis.call('HSET', KEYS[3], request, (string.gsub(held,
  '^(%d+\31%d+\31%d\31)[^\31]*\31[^\31]*', function(head) return head .. ARGV[3] .. '\31' .. string.sub(key, 1, 24) end)))
for i = 2, 4 do redis.call('PEXPIRE', KEYS[i], 3600000) end
evict()
save()
local rank = redis.call('ZRANK', KEYS[2], request)
local retry = math.min(ARGV[4], ARGV[12] / 2)
for _, other in ipairs(holders) do
  retry = math.min(retry, other.expires - now + 1000)
end
if rank > 0 then
  local death = tonumber(redis.call('ZRANGE', KEYS[4], 0, 0, 'WITHSCORES')[2])
  retry = math.min(retry, math.max(death - now + 1000, tonumber(ARGV[4]) / 4))
end
if opens and sealed then retry = math.min(retry, opens - now + 1000) end
-- A waiter keeps its place while nothing is granted.
return {'queued', rank + 1, qlen, math.floor(math.max(retry, 1000)), holder(), now, evicted,
  tonumber(string.match(held, '^%d+')), sealed and stamp or nil}
