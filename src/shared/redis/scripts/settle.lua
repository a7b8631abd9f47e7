
-- Ends holds, or parts of them; doing it twice changes nothing. KEYS[1] is the epoch; ARGV[1] is
--   {prefix, session, epoch, then for each: hold, its epoch, moment, 1 to end it or 0 to give back, {id, kind, window, actual, …}}
-- What a hold holds is in its record, so a take whose answer was lost is ended as well; "moment" is when that can no longer
-- arrive, and before it nothing is done. Without a record a hold was returned when its replica seemed dead, or was lost in a
-- flush: then all that was consumed is added. Else it has ended before. Of a hold that this epoch may not know, only a mark of
-- ten minutes says whether it has.
-- Answers {status, now, for each 0 done or 1 too early}; status 3: there is another epoch, and nothing was done.
local a = cmsgpack.unpack(ARGV[1])
local prefix, epoch = a[1], a[3]
if call('GET', KEYS[1]) ~= epoch then return {3, now} end
local holds, returned = prefix .. 'h:' .. a[2], prefix .. 'x:' .. a[2]
local names = {}
for at = 4, #a, 5 do names[#names + 1] = a[at] end
local records = call('HMGET', holds, unpack(names))
local answer, ended = {0, now}, {}

-- Whether a hold of another epoch, or of none, ends for the first time.
local function ends_first(hold)
  return call('SET', prefix .. 'b:' .. a[2] .. '-' .. hold, '', 'NX', 'PX', 600000)
end

-- What is named is given back whole, the rest is held on.
local function give_back(record, named)
  local gone, left = {}, {}
  for i = 1, #named, 4 do gone[named[i]] = true end
  local parts = {cmsgpack.unpack(record)}
  for p = 1, #parts, 2 do
    local at, held, kept = parts[p], parts[p + 1], {}
    for i = 1, #held, 5 do
      if gone[held[i]] then
        local window = held[i + 2]
        local bucket = held[i + 1] == ROLLING and floor(at / ceil(window / 60))
        owe(prefix .. 'c:' .. held[i], held[i + 1], window, bucket, -held[i + 3])
      else
        for offset = 0, 4 do kept[#kept + 1] = held[i + offset] end
      end
    end
    if #kept > 0 then left[#left + 1] = cmsgpack.pack(at) .. cmsgpack.pack(kept) end
  end
  return table.concat(left)
end

for i = 1, #names do
  local at = 5 * i - 1
  local record, actual, foreign = records[i], a[at + 4], a[at + 1] ~= epoch
  answer[i + 2] = 0
  if now <= a[at + 2] then
    answer[i + 2] = 1
  elseif record then
    if a[at + 3] == 1 then
      local rest = {}
      for entry = 1, #actual, 4 do rest[actual[entry]] = (rest[actual[entry]] or 0) + actual[entry + 3] end
      finish(prefix, record, rest)
      ended[#ended + 1] = names[i]
      if foreign then ends_first(names[i]) end
    else
      call('HSET', holds, names[i], give_back(record, actual))
    end
  elseif a[at + 3] == 1 then
    local untold = call('HDEL', returned, names[i]) == 1
    if foreign then untold = ends_first(names[i]) end
    for entry = 1, untold and #actual or 0, 4 do
      consume(prefix .. 'c:' .. actual[entry], actual[entry + 1], actual[entry + 2], actual[entry + 3])
    end
  end
end
pay()
if #ended > 0 then call('HDEL', holds, unpack(ended)) end
return answer
