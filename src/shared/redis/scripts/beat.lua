
-- A replica's sign of life, and the end of replicas without one. KEYS[1] is the epoch; ARGV[1] is {prefix, session, lease}.
-- What a dead replica held is given back, some holds at a time, and each leaves a mark for an hour: should the replica live
-- after all, what its calls consumed is added when they end. A lease of 0 is a replica that leaves.
-- Answers {0, now, epoch or '', owner of the rebuilding or '', 1 if this replica was known, replicas, holds returned, 1 if
-- more are to be returned}.
local a = cmsgpack.unpack(ARGV[1])
local prefix, session = a[1], a[2]
local leases = prefix .. 'replicas'
local score = call('ZSCORE', leases, session)
if a[3] > 0 then
  call('ZADD', leases, text(now + a[3]), session)
else
  call('ZREM', leases, session)
end
local returned, more = 0, 0
for _, dead in ipairs(call('ZRANGEBYSCORE', leases, '-inf', text(now), 'LIMIT', 0, 1)) do
  local holds, marks = prefix .. 'h:' .. dead, prefix .. 'x:' .. dead
  local found = call('HSCAN', holds, 0, 'COUNT', 200)[2]
  for i = 1, #found, 2 do
    finish(prefix, found[i + 1], {})
    call('HDEL', holds, found[i])
    call('HSET', marks, found[i], '')
    returned = returned + 1
  end
  if returned > 0 then call('PEXPIRE', marks, 3600000) end
  if call('EXISTS', holds) == 0 then call('ZREM', leases, dead) end
  more = 1
end
pay()
return {0, now, call('GET', KEYS[1]) or '', call('GET', prefix .. 'rebuild') or '', score and 1 or 0,
  call('ZCOUNT', leases, text(now + 1), '+inf'), returned, more}
