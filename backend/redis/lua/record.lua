-- The record of a lock, read and pruned. Every script starts with this text,
-- before which a local says whether it may drop dead waiters: prunes. Expired
-- holders count for nothing, but stay in the record until a call drops them that
-- can report them.
--
-- KEYS  1 the record (hash)      f format, t last token, s last ticket, h holders,
--                                  q 0 if nobody waits, x when it expires (ms);
--                                  and the latest ends: 32 digits of a hash of the
--                                  request id, or of that and the key of the
--                                  attempt that was left -> when (16 digits of
--                                  µs), token (16), start of the lease's key (24),
--                                  cause (1)
--       2 the queue (zset)       request id -> order * 16 + priority
--       3 the waiters (hash)     request id -> ticket, priority, shared, inbox, start
--                                  of the key (24), owner
--       4 their deadlines (zset) request id -> µs
--       5 the shard's index (zset) lock id -> when to look at it, µs; and the
--                                  ended leases that nobody has told yet ->
--                                  when to report them again
-- ARGV  1 the lock id, 2 µs for which the record of a free lock is kept, 3 the
--       inbox of the caller's hints
--
-- Numbers are exact: µs since 1970 stay below 2^53. Inside text they are written
-- by int(), because Lua's tostring of a large number loses digits; as arguments
-- and in replies the server itself writes them exactly. Separators are control
-- characters, which no id may contain.
local id, retention = ARGV[1], tonumber(ARGV[2])

local function int(n) return string.format('%.0f', n) end

local rec = redis.call('HMGET', KEYS[1], 'f', 't', 'h', 'x')
if rec[1] and tonumber(rec[1]) > 1 then return {'format', rec[1]} end
local last = tonumber(rec[2] or 0)
local qlen = redis.call('ZCARD', KEYS[2])
-- dirty: the record is to be written; moved: somebody may be grantable now.
local dirty, moved = false, false
local evicted = ''
local expired = {}

-- remember keeps the end of a hold.
local function remember(request, token, key, cause)
  redis.call('HSET', KEYS[1], request, string.format('%016.0f%016.0f%s%s', now, token, string.sub(key, 1, 24), cause))
  dirty = true
  trim_ends(KEYS[1])
end

-- untold keeps an end until somebody has told it. The member starts with a
-- character that no lock id has.
local function untold(h, cause)
  redis.call('ZADD', KEYS[5], now + 5000000,
    '\30' .. table.concat({int(h.token), h.shared and '1' or '0', cause, h.owner, id}, '\31'))
end

-- end_holds keeps the ends of a lease's holds, of very many the latest.
local function end_holds(h, cause)
  local requests = {}
  for request in string.gmatch(h.holds, '([^\29]+)') do requests[#requests + 1] = request end
  for i = math.max(1, #requests - 15), #requests do
    remember(string.sub(redis.sha1hex(requests[i]), 1, 32), h.token, h.key, cause)
  end
  dirty = true
end

local holders = {}
if rec[3] and rec[3] ~= '' then
  for token, key, attach, expires, ttl, flags, inbox, owner, meta, holds in string.gmatch(rec[3],
    '([^\31]*)\31([^\31]*)\31([^\31]*)\31([^\31]*)\31([^\31]*)\31([^\31]*)\31([^\31]*)\31([^\31]*)\31([^\31]*)\31([^\30]*)\30') do
    local h = {token = tonumber(token), key = key, attach = tonumber(attach), expires = tonumber(expires), ttl = tonumber(ttl),
      shared = string.find(flags, 's', 1, true) ~= nil, revoked = string.find(flags, 'r', 1, true) ~= nil,
      inbox = inbox, owner = owner, meta = meta, holds = holds}
    local living = h.expires > now
    local list = living and holders or expired
    list[#list + 1] = h
  end
end

-- evict drops the expired holders. The reply must report what it adds to
-- evicted: each expiry is reported by the one call that dropped it.
local function evict()
  for _, h in ipairs(expired) do
    end_holds(h, 'e')
    untold(h, 'e')
    evicted = evicted .. int(h.token) .. '\31' .. (h.shared and '1' or '0') .. '\31' .. h.owner .. '\30'
    moved = true
  end
  expired = {}
end

local function drop_places(requests)
  for i = 1, #requests, 1000 do
    local j = math.min(i + 999, #requests)
    qlen = qlen - redis.call('ZREM', KEYS[2], unpack(requests, i, j))
    redis.call('HDEL', KEYS[3], unpack(requests, i, j))
    redis.call('ZREM', KEYS[4], unpack(requests, i, j))
  end
  dirty, moved = true, true
end

-- repair drops what is left of places that the server lost a part of, by an
-- eviction or by hand. Their sidecars ask again, which makes them new ones.
local function repair()
  local all, broken = {}, {}
  for _, request in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do all[request] = 1 end
  for _, request in ipairs(redis.call('HKEYS', KEYS[3])) do all[request] = (all[request] or 0) + 1 end
  for _, request in ipairs(redis.call('ZRANGE', KEYS[4], 0, -1)) do all[request] = (all[request] or 0) + 1 end
  for request, parts in pairs(all) do
    if parts < 3 then broken[#broken + 1] = request end
  end
  drop_places(broken)
end

if prunes and qlen > 0 then
  local dead = redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', now)
  if #dead > 0 then drop_places(dead) end
  if qlen ~= redis.call('ZCARD', KEYS[4]) or qlen ~= redis.call('HLEN', KEYS[3]) then repair() end
end

local function with_token(list, token)
  for _, h in ipairs(list) do if h.token == token then return h end end
end

local function with_hold(list, request)
  for _, h in ipairs(list) do
    if string.find(h.holds, '\29' .. request .. '\29', 1, true) then return h end
  end
end

local function remove(gone)
  local rest = {}
  for _, h in ipairs(holders) do if h ~= gone then rest[#rest + 1] = h end end
  holders, dirty, moved = rest, true, true
end

local function admits(shared) return #holders == 0 or shared and holders[1].shared end

local function key_of(data) return string.match(data, '^%d+\31%d+\31%d\31[^\31]*\31([^\31]*)') end

local function is_shared(data) return data and string.find(data, '^%d+\31%d+\0311') ~= nil end

local function write_holder(h)
  return table.concat({int(h.token), h.key, int(h.attach), int(h.expires), int(h.ttl),
    (h.shared and 's' or '') .. (h.revoked and 'r' or ''), h.inbox, h.owner, h.meta, h.holds}, '\31') .. '\30'
end

-- hint publishes. A server that refuses to (an ACL without channels) must not
-- fail the call half-way: a hint decides nothing.
local function hint(inbox, text) redis.pcall('PUBLISH', inbox, text) end

-- tell hints at a holder that its lease changed under it.
local function tell(h) hint(h.inbox, 'r\31' .. id .. '\31' .. int(h.token)) end

-- wake hints at every waiter that could be granted now: the first one, and if
-- it is shared the shared ones that follow it without a gap.
local function wake()
  local from = 0
  while from < qlen do
    local requests = redis.call('ZRANGE', KEYS[2], from, from + 63)
    local data = redis.call('HMGET', KEYS[3], unpack(requests))
    for i, request in ipairs(requests) do
      local shared = is_shared(data[i])
      if not admits(shared) or not shared and from + i > 1 then return end
      hint(string.match(data[i], '^%d+\31%d+\31%d\31([^\31]*)'), 'g\31' .. id .. '\31' .. request)
      if not shared then return end
    end
    from = from + 64
  end
end

-- save writes what changed, and keeps the index to the busy locks. The record
-- is kept for the retention after its last lease, and while places may stand.
local function save()
  if dirty then
    local blobs, look, keep = {}, now + 60000000, math.max(now, last)
    for _, list in ipairs({expired, holders}) do
      for _, h in ipairs(list) do
        blobs[#blobs + 1] = write_holder(h)
        look, keep = math.min(look, math.max(h.expires, now)), math.max(keep, h.expires)
      end
    end
    if qlen > 0 then keep = keep + 3600000000 end
    redis.call('HSET', KEYS[1], 'f', '1', 't', last, 'h', table.concat(blobs), 'q', qlen > 0 and '1' or '0')
    keep = keep_for(rec[4], keep, retention)
    if keep then
      redis.call('HSET', KEYS[1], 'x', keep)
      redis.call('PEXPIREAT', KEYS[1], keep)
    end
    if #blobs > 0 or qlen > 0 then
      redis.call('ZADD', KEYS[5], look, id)
      if now % 16 == 0 then sweep(KEYS[5]) end
    else
      redis.call('ZREM', KEYS[5], id)
    end
  end
  if moved then wake() end
end

local function lease(h, ticket)
  return {'lease', h.token, h.attach, h.expires, now, h.ttl, h.shared and '1' or '0', h.owner, h.meta, h.holds, evicted, ticket}
end

local function holder() return holders[1] and write_holder(holders[1]) or '' end

local function cause_of(code)
  return ({e = 'expired', f = 'forced', d = 'deadlock', x = 'released'})[code]
end

-- end_of returns the cause of the latest end whose token (and start of the key)
-- is the prefix: a lease may have lost holds by release before it ended itself.
local function end_of(prefix)
  local latest
  local all = redis.call('HGETALL', KEYS[1])
  for i = 1, #all, 2 do
    local e = #all[i] == 32 and all[i + 1] or ''
    if string.sub(e, 17, 16 + #prefix) == prefix and (not latest or e > latest) then latest = e end
  end
  return latest and string.sub(latest, 57, 57)
end

-- find returns the lease that key, token and attach number prove, or nil, the
-- answer, and whether the lease was released.
local function find(key, token, attach)
  local h = with_token(holders, token)
  if h then
    if h.key ~= key then return nil, {'notowner'} end
    if attach ~= 0 and attach ~= h.attach then return nil, {'lost', 'reattached'} end
    return h
  end
  for _, other in ipairs(holders) do
    if other.key == key then return nil, {'stale', other.token} end
  end
  for _, other in ipairs(expired) do
    if other.token == token and other.key == key then return nil, {'lost', 'expired'} end
  end
  local code = end_of(string.format('%016.0f', token) .. string.sub(key, 1, 24))
  if not code then return nil, {'lost', 'unknown'} end
  return nil, {'lost', cause_of(code)}, code == 'x'
end

-- drop_hold ends one hold, and the lease with its last one. as is what the end
-- is kept under, if not the hash of the request id.
local function drop_hold(h, request, as)
  local from, to = string.find(h.holds, '\29' .. request .. '\29', 1, true)
  if not from then return end
  remember(as or string.sub(redis.sha1hex(request), 1, 32), h.token, h.key, 'x')
  dirty = true
  h.holds = string.sub(h.holds, 1, from) .. string.sub(h.holds, to + 1)
  if h.holds == '\29' then remove(h) end
end

-- ended returns the end of the request or of this attempt at it, or false.
local function ended(request, attempt)
  local e = redis.call('HMGET', KEYS[1], request, attempt)
  return e[1] or e[2]
end

local function count_holds(h)
  local _, n = string.gsub(h.holds, '\29', '')
  return n - 1
end
