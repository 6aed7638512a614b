-- Tables, closures, strings, floating point without libm. lua.lua ROUNDS
local rounds = tonumber(arg[1])
local seed = 12345
local function random(n) seed = (seed * 16807) % 2147483647; return seed % n end
local total = 0
for turn = 1, rounds do
    local grid, size = {}, 64
    for i = 1, size * size do grid[i] = random(2) end
    for step = 1, 20 do
        local new = {}
        for y = 0, size - 1 do
            for x = 0, size - 1 do
                local n = 0
                for dy = -1, 1 do
                    for dx = -1, 1 do
                        if dx ~= 0 or dy ~= 0 then n = n + grid[(y + dy) % size * size + (x + dx) % size + 1] end
                    end
                end
                local alive = grid[y * size + x + 1]
                new[y * size + x + 1] = (n == 3 or (n == 2 and alive == 1)) and 1 or 0
            end
        end
        grid = new
    end
    for i = 1, size * size do total = (total * 3 + grid[i] + i) % 1000003 end
    local words, count = {}, {}
    for i = 1, 3000 do words[i] = "w" .. random(500) end
    for _, word in ipairs(words) do count[word] = (count[word] or 0) + 1 end
    table.sort(words)
    local text = table.concat(words, " ", 1, 300):gsub("w(%d)", "%1w")
    total = (total + #text + count[words[1]] + count[words[3000]]) % 1000003
    local sum = 0.0
    for i = 1, 200000 do sum = sum + 1.0 / (i * i + 0.5) end
    total = (total + math.floor(sum * 1e9)) % 1000003
end
print(total)
