-- Ends holds, or parts of them; doing it twice changes nothing. KEYS[1] is the epoch; ARGV[1] is
--   {prefix, session, epoch, then for each: hold, its epoch, moment, 1 to end it or 0 to give back, {id, kind, window, actual, …}}
-- What a hold holds is in its record, so a take whose answer was lost is ended as well; "moment" is when that can no longer
-- arrive, and before it nothing is done. Without a record a hold was returned when its replica seemed dead, or was lost in a
-- flush: then all that was consumed is added. Else it has ended before.
-- Answers {status, now, for each 0 done or 1 too early}; status 3: there is another epoch, and nothing was done.
local a = cmsgpack.unpack(ARGV[1])
local prefix, epoch = a[1], a[3]
if call('GET', KEYS[1]) ~= epoch then return {3, now} end
local holds, returned = prefix .. 'h:' .. a[2], prefix .. 'x:' .. a[2]
local names = {}
for at = 4, #a, 5 do names[#names + 1] = a[at] end
local records = call('HMGET', holds, unpack(names))
local answer, ended = {0, now}, {}

local function end_record(record, actual)
  local rest = {}
  for i = 1, #actual, 4 do rest[actual[i]] = (rest[actual[i]] or 0) + actual[i + 3] end
  local last = {}
  for i = 1, #record, 5 do
    local id, kind, amount = record[i], record[i + 1], record[i + 4]
    local consumed = math.min(rest[id] or 0, amount)
    if rest[id] then rest[id] = rest[id] - consumed end
    give(prefix .. 'c:' .. id, kind, record[i + 2], record[i + 3], amount, consumed)
    last[id] = i
  end
  for id, i in pairs(last) do
    if (rest[id] or 0) > 0 and record[i + 1] ~= SLOTS then
      add(prefix .. 'c:' .. id, record[i + 1], record[i + 2], rest[id], now)
    end
  end
end

-- What is named is given back whole, the rest is held on.
local function give_back(record, named)
  local gone, left = {}, {}
  for i = 1, #named, 4 do gone[named[i]] = true end
  for i = 1, #record, 5 do
    if gone[record[i]] then
      give(prefix .. 'c:' .. record[i], record[i + 1], record[i + 2], record[i + 3], record[i + 4], 0)
    else
      for offset = 0, 4 do left[#left + 1] = record[i + offset] end
    end
  end
  return left
end

for i = 1, #names do
  local at = 5 * i - 1
  local record, actual = records[i], a[at + 4]
  answer[i + 2] = 0
  if now <= a[at + 2] then
    answer[i + 2] = 1
  elseif record then
    record = cmsgpack.unpack(record)
    if a[at + 3] == 1 then
      end_record(record, actual)
      ended[#ended + 1] = names[i]
    else
      call('HSET', holds, names[i], cmsgpack.pack(give_back(record, actual)))
    end
  elseif a[at + 3] == 1 and (call('HDEL', returned, names[i]) == 1 or a[at + 1] ~= epoch) then
    for entry = 1, #actual, 4 do
      if actual[entry + 1] ~= SLOTS then
        add(prefix .. 'c:' .. actual[entry], actual[entry + 1], actual[entry + 2], actual[entry + 3], now)
      end
    end
  end
end
if #ended > 0 then call('HDEL', holds, unpack(ended)) end
return answer
