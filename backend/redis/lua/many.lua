-- A script of many locks: what follows is done for each, as if it were alone. What
-- fails of one fails for that one. A common case reads what is given for its lock
-- where it stands, after the k-th key and the a-th argument; everything else has
-- KEYS and ARGV of its own.
local all, given = KEYS, ARGV
local KEYS, ARGV
local call, text = redis.call, string.format
-- Where the server's integers have 64 bits, they cost less to write than others.
local whole, padded = '%.0f', '%016.0f'
if text('%d', 9007199254740991) == '9007199254740991' then whole, padded = '%d', '%016d' end

-- take makes KEYS and ARGV of the lock: its id, what is common to all locks, and
-- the rest of its own.
local function take(k, a, common, own)
  KEYS, ARGV = {unpack(all, k + 1, k + 5)}, {given[a + 1]}
  for i = 1, common do ARGV[1 + i] = given[i] end
  for i = 2, own do ARGV[common + i] = given[a + i] end
end

