
-- Counts `amount` at the moment `at`, whatever the limit.
local function add(key, kind, window, amount, at)
  if kind == ROLLING then
    local width = ceil(window / 60)
    local index = floor(at / width)
    if index >= first_inside(window, width) then
      roll(key, window, width, index, amount, look(key, window, width, call('GET', key)))
    end
  elseif kind == PERIOD then
    if amount ~= 0 and now <= window + GRACE then
      local value = call('INCRBY', key, text(amount))
      if value <= amount then call('PEXPIREAT', key, text(max(window, now) + GRACE)) end
      if value < 0 then call('DEL', key) end
    end
  elseif call('INCRBY', key, text(amount)) <= 0 then
    call('DEL', key)
  end
end

-- What settling changes, by counter, so that many holds of one counter change it once: of rolling ones {window, amounts by
-- bucket}, of others {kind, window, amount}.
local owed, rolls = {}, {}

local function owe(key, kind, window, bucket, amount)
  if amount == 0 then return end
  if kind == ROLLING then
    local debt = rolls[key]
    if not debt then
      rolls[key] = {window, {[bucket] = amount}}
    else
      debt[2][bucket] = (debt[2][bucket] or 0) + amount
    end
  else
    local debt = owed[key]
    if not debt then
      owed[key] = {kind, window, amount}
    else
      debt[3] = debt[3] + amount
    end
  end
end

-- A bucket never holds less than nothing, and one that has left is nobody's any more.
local function pay_rolling(key, window, amounts, head)
  local width = ceil(window / 60)
  local first = first_inside(window, width)
  local sum, oldest, newest, content = look(key, window, width, head)
  local before, later, earlier, names = sum, {}, {}, {}
  for bucket, amount in pairs(amounts) do
    if bucket == newest then
      local left = max(0, content + amount)
      sum, content = sum + left - content, left
    elseif bucket >= first then
      if not newest or bucket > newest then
        if amount > 0 then later[#later + 1] = bucket end
      else
        earlier[#earlier + 1], names[#names + 1] = bucket, text(bucket)
      end
    end
  end
  if #names > 0 then
    local set, tail = {}, key .. 't'
    for place, was in ipairs(call('HMGET', tail, unpack(names))) do
      local held = tonumber(was or 0)
      local left = max(0, held + amounts[earlier[place]])
      if left ~= held then
        sum, oldest = sum + left - held, math.min(oldest, earlier[place])
        set[#set + 1], set[#set + 2] = names[place], text(left)
      end
    end
    if #set > 0 then
      call('HSET', tail, unpack(set))
      call('PEXPIREAT', tail, text(leaves_at(newest, window, width) + 1000))
    end
  end
  if #later > 0 then
    table.sort(later)
    for _, bucket in ipairs(later) do
      sum, oldest, newest, content = roll(key, window, width, bucket, amounts[bucket], sum, oldest, newest, content)
    end
  elseif sum <= 0 then
    if newest then call('DEL', key, key .. 't') end
  elseif sum ~= before or #names > 0 then
    write(key, sum, oldest, newest, content)
  end
end

local function pay()
  for key, debt in pairs(owed) do add(key, debt[1], debt[2], debt[3], now) end
  local names = {}
  for key in pairs(rolls) do names[#names + 1] = key end
  for from = 1, #names, 1000 do
    for place, head in ipairs(call('MGET', unpack(names, from, math.min(#names, from + 999)))) do
      local key = names[from + place - 1]
      pay_rolling(key, rolls[key][1], rolls[key][2], head)
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
