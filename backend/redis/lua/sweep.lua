-- Looks at a lock that the index names: what has run out is dropped, as by an
-- attempt, and the index learns when to look again.
if not rec[1] then
  redis.call('ZREM', KEYS[5], id)
  return {'swept', ''}
end
evict()
dirty = true
save()
return {'swept', evicted}
