-- What every script begins with. Moments are milliseconds of this server's clock. A counter is of one of three kinds:
--   slots     a number
--   period    a number that expires after the period's end
--   rolling   a hash: the sum of all buckets (s), the oldest (o) and newest (n) bucket there may be, and each bucket under
--             its index; it expires with its newest bucket
-- Keys that a script makes of an id have the prefix of its declared key, and with it the same hash tag and slot.
local call, floor, ceil, max = redis.call, math.floor, math.ceil, math.max
local SLOTS, PERIOD, ROLLING = 0, 1, 2
local GRACE = 60000
local time = call('TIME')
local now = time[1] * 1000 + floor(time[2] / 1000)

local function text(number) return string.format('%d', number) end

-- The first bucket that is still in a window: all others are a whole window old.
local function first_inside(millis, width) return floor((now - millis + 1) / width) end

local function leaves_at(index, millis, width) return (index + 1) * width - 1 + millis end

-- Drops the buckets that have left. Gives the sum and the oldest bucket that may be there.
local function leave(key, millis, width, sum, oldest, newest)
  local first = first_inside(millis, width)
  if oldest >= first then return sum, oldest end
  if newest < first then
    call('DEL', key)
    return 0, nil
  end
  local gone = {}
  for index = oldest, first - 1 do gone[#gone + 1] = text(index) end
  for _, amount in ipairs(call('HMGET', key, unpack(gone))) do sum = sum - (tonumber(amount or 0)) end
  call('HDEL', key, unpack(gone))
  call('HSET', key, 's', text(sum), 'o', text(first))
  return sum, first
end

-- A rolling counter as it is now: sum, oldest and newest bucket, and the content of the bucket `index`.
local function look(key, millis, width, index)
  local got = call('HMGET', key, 's', 'o', 'n', text(index))
  if not got[1] then return 0, nil, nil, nil end
  local sum, oldest = leave(key, millis, width, tonumber(got[1]), tonumber(got[2]), tonumber(got[3]))
  if not oldest then return 0, nil, nil, nil end
  return sum, oldest, tonumber(got[3]), index >= oldest and tonumber(got[4] or 0) or nil
end

-- Adds to the bucket `index`, which is in the window.
local function roll(key, millis, width, index, amount, sum, oldest, newest, content)
  if index == newest then
    call('HSET', key, 's', text(sum + amount), text(index), text(content + amount))
    return
  end
  call('HSET', key, 's', text(sum + amount), text(index), text((content or 0) + amount),
    'o', text(math.min(oldest or index, index)), 'n', text(max(newest or index, index)))
  if not newest or index > newest then call('PEXPIREAT', key, text(leaves_at(index, millis, width) + 1000)) end
end

-- Counts `amount` at the moment `at`, whatever the limit. Gives the bucket.
local function add(key, kind, window, amount, at)
  if kind == ROLLING then
    local width = ceil(window / 60)
    local index = floor(at / width)
    if index < first_inside(window, width) then return index end
    local sum, oldest, newest, content = look(key, window, width, index)
    roll(key, window, width, index, amount, sum, oldest, newest, content)
    return index
  end
  if kind == PERIOD then
    if amount ~= 0 and now <= window + GRACE then
      local value = call('INCRBY', key, text(amount))
      if value <= amount then call('PEXPIREAT', key, text(max(window, now) + GRACE)) end
      if value < 0 then call('DEL', key) end
    end
  elseif call('INCRBY', key, text(amount)) <= 0 then
    call('DEL', key)
  end
  return 0
end

-- What settling changes, by counter, so that many holds of one counter change it once: {kind, window, amount}, and of rolling
-- ones {kind, window, amounts by bucket}.
local owed = {}

local function owe(key, kind, window, bucket, amount)
  if amount == 0 then return end
  local debt = owed[key]
  if not debt then
    debt = {kind, window, kind == ROLLING and {} or 0}
    owed[key] = debt
  end
  if kind == ROLLING then
    debt[3][bucket] = (debt[3][bucket] or 0) + amount
  else
    debt[3] = debt[3] + amount
  end
end

local function pay_rolling(key, window, amounts)
  local width = ceil(window / 60)
  local first = first_inside(window, width)
  local names, buckets = {'s', 'o', 'n'}, {}
  for bucket in pairs(amounts) do
    if bucket >= first then
      buckets[#buckets + 1] = bucket
      names[#names + 1] = text(bucket)
    end
  end
  if #buckets == 0 then return end
  local got = call('HMGET', key, unpack(names))
  local sum, oldest, newest = 0, nil, nil
  if got[1] then
    newest = tonumber(got[3])
    sum, oldest = leave(key, window, width, tonumber(got[1]), tonumber(got[2]), newest)
    if not oldest then newest = nil end
  end
  local set, before = {}, newest
  for place, bucket in ipairs(buckets) do
    local content = oldest and bucket >= oldest and tonumber(got[place + 3] or 0) or 0
    local now_in_it = max(0, content + amounts[bucket])
    if now_in_it ~= content then
      sum = sum + now_in_it - content
      set[#set + 1], set[#set + 2] = names[place + 3], text(now_in_it)
      oldest, newest = math.min(oldest or bucket, bucket), max(newest or bucket, bucket)
    end
  end
  if #set == 0 then return end
  if sum <= 0 then
    call('DEL', key)
    return
  end
  call('HSET', key, 's', text(sum), 'o', text(oldest), 'n', text(newest), unpack(set))
  if newest ~= before then call('PEXPIREAT', key, text(leaves_at(newest, window, width) + 1000)) end
end

local function pay()
  for key, debt in pairs(owed) do
    if debt[1] == ROLLING then
      pay_rolling(key, debt[2], debt[3])
    elseif debt[3] ~= 0 then
      add(key, debt[1], debt[2], debt[3], now)
    end
  end
end

-- Counts what was consumed without, or beyond, what was held.
local function consume(key, kind, window, amount)
  if kind ~= SLOTS then owe(key, kind, window, kind == ROLLING and floor(now / ceil(window / 60)), amount) end
end

-- A hold's record is a row of pairs, one for each time it took: the moment, and {id, kind, window, amount, limit, …}. Ends all
-- of it: of each counter `rest` says what was consumed, the earliest first.
local function finish(prefix, record, rest)
  local parts, last = {cmsgpack.unpack(record)}, {}
  for p = 1, #parts, 2 do
    local at, held = parts[p], parts[p + 1]
    for i = 1, #held, 5 do
      local id, kind, window, amount = held[i], held[i + 1], held[i + 2], held[i + 3]
      local left = rest[id] or 0
      local consumed = left < amount and left or amount
      if kind == SLOTS then
        consumed = 0
      elseif left > 0 then
        rest[id] = left - consumed
      end
      owe(prefix .. 'c:' .. id, kind, window, kind == ROLLING and floor(at / ceil(window / 60)), consumed - amount)
      if left > amount and kind ~= SLOTS then last[id] = {kind, window} end
    end
  end
  for id, counter in pairs(last) do
    if rest[id] > 0 then consume(prefix .. 'c:' .. id, counter[1], counter[2], rest[id]) end
  end
end
