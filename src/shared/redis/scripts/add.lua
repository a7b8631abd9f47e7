
-- Adds what was spent without a hold, or while Redis was away. KEYS[1] is the epoch; ARGV[1] is
--   {prefix, epoch, batch, then for each: id, kind, window, amount, age}
-- A batch is added once: it leaves a mark for ten minutes. Answers {status, now}; 3 is another epoch.
local a = cmsgpack.unpack(ARGV[1])
if call('GET', KEYS[1]) ~= a[2] then return {3, now} end
if call('SET', a[1] .. 'b:' .. a[3], '', 'NX', 'PX', 600000) then
  for at = 4, #a, 5 do add(a[1] .. 'c:' .. a[at], a[at + 1], a[at + 2], a[at + 3], now - a[at + 4]) end
end
return {0, now}
