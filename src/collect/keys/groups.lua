-- One step through the keys of a database: which groups are there, how many keys and bytes in each.
-- ARGV: cursor, COUNT, bytes of a group name at most, patterns.
-- Gives: next cursor, then group, keys, bytes for each group.
local page = redis.call('SCAN', ARGV[1], 'COUNT', ARGV[2])
local longest = tonumber(ARGV[3])
local keys, bytes = {}, {}
for _, key in ipairs(page[2]) do
  local group = 'unclassified'
  for i = 4, #ARGV do
    local found = {string.find(key, ARGV[i])}
    if found[1] then
      -- Two positions, then the captures.
      group = string.sub(table.concat(found, '', 3), 1, longest)
      break
    end
  end
  keys[group] = (keys[group] or 0) + 1
  bytes[group] = (bytes[group] or 0) + (redis.call('MEMORY', 'USAGE', key) or 0)
end
local answer = {page[1]}
for group, count in pairs(keys) do
  table.insert(answer, group)
  table.insert(answer, count)
  table.insert(answer, bytes[group])
end
return answer
