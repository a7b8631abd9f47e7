
-- Who rebuilds the counters. KEYS[1] is the epoch, KEYS[2] the lock; ARGV is {session, what, new epoch}: "begin" takes the
-- lock if there is no epoch, "finish" sets the epoch, "leave" gives the lock back. Answers {status, now}; 5: another has the
-- lock, 3: there is an epoch.
local mine = call('GET', KEYS[2]) == ARGV[1]
if ARGV[2] == 'begin' then
  if call('EXISTS', KEYS[1]) == 1 then return {3, now} end
  if not mine and call('EXISTS', KEYS[2]) == 1 then return {5, now} end
  call('SET', KEYS[2], ARGV[1], 'PX', 30000)
elseif not mine then
  return {5, now}
else
  if ARGV[2] == 'finish' then call('SET', KEYS[1], ARGV[3]) end
  call('DEL', KEYS[2])
end
return {0, now}
