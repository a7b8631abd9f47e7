
-- Registers holds that live although Redis does not know them, after a flush or an outage: counted whatever the limit, and
-- once. KEYS[1] is the epoch; ARGV[1] is {prefix, session, epoch, then for each: hold, {id, kind, window, amount, …}}.
-- Answers {status, now}; 3 is another epoch.
local a = cmsgpack.unpack(ARGV[1])
local prefix = a[1]
if call('GET', KEYS[1]) ~= a[3] then return {3, now} end
local holds, returned = prefix .. 'h:' .. a[2], prefix .. 'x:' .. a[2]
for at = 4, #a, 2 do
  if call('HEXISTS', holds, a[at]) == 0 then
    local record, held = {}, a[at + 1]
    for i = 1, #held, 4 do
      add(prefix .. 'c:' .. held[i], held[i + 1], held[i + 2], held[i + 3], now)
      for offset = 0, 3 do record[#record + 1] = held[i + offset] end
      record[#record + 1] = -1
    end
    call('HSET', holds, a[at], cmsgpack.pack(now) .. cmsgpack.pack(record))
    call('HDEL', returned, a[at])
  end
end
return {0, now}
