
-- Sets what was spent, as the ledger has it. KEYS[1] is the lock of whoever rebuilds; ARGV[1] is
--   {prefix, session, then for each: id, kind, window, amount, age}
-- Answers {status, now}; 5: another has the lock.
local a = cmsgpack.unpack(ARGV[1])
if call('GET', KEYS[1]) ~= a[2] then return {5, now} end
call('PEXPIRE', KEYS[1], 30000)
for at = 3, #a, 5 do call('DEL', a[1] .. 'c:' .. a[at], a[1] .. 'c:' .. a[at] .. 't') end
for at = 3, #a, 5 do add(a[1] .. 'c:' .. a[at], a[at + 1], a[at + 2], a[at + 3], now - a[at + 4]) end
return {0, now}
