
-- Ends holds whose gateway knows exactly what is in their records, so that nobody has to read these: it says by how much each
-- counter changes. KEYS[1] is the epoch; ARGV[1] is
--   {prefix, session, epoch, {hold, …}, then for each counter and bucket: id, kind, window, bucket, change}
-- The bucket -1 is that of this moment; only rolling counters have buckets. Answers {0, now, 1}; with 0 in place of 1 some
-- hold has no record, and nothing was done. Status 3: there is another epoch.
local a = cmsgpack.unpack(ARGV[1])
local prefix = a[1]
if call('GET', KEYS[1]) ~= a[3] then return {3, now} end
local holds = prefix .. 'h:' .. a[2]
for _, record in ipairs(call('HMGET', holds, unpack(a[4]))) do
  if not record then return {0, now, 0} end
end
local keys = prefix .. 'c:'
for at = 5, #a, 5 do
  local key, kind, window = keys .. a[at], a[at + 1], a[at + 2]
  if kind == ROLLING then
    local bucket = a[at + 3]
    owe(key, kind, window, bucket < 0 and floor(now / ceil(window / 60)) or bucket, a[at + 4])
  else
    add(key, kind, window, a[at + 4], now)
  end
end
pay()
call('HDEL', holds, unpack(a[4]))
return {0, now, 1}
