# Fields, associative arrays, string functions over a text file. Run as awk -v rounds=N -f awk.awk FILE
{
    lines++
    for (i = 1; i <= NF; i++) {
        count[$i]++
        chars += length($i)
    }
    if ($0 ~ /^[0-9]+\t/) {
        split($0, part, "\t")
        sum += part[2] % 7
    }
    if (lines % 5 == 0) {
        line = $0
        hits += gsub(/[aeiou]+/, "_", line)
        last = substr(line, 3, 8) toupper(substr($1, 1, 2))
    }
}
END {
    for (word in count) if (count[word] > 50) { many++; weight += count[word] * length(word) }
    x = 1
    for (i = 0; i < rounds; i++) { x = (x * 1103 + i) % 65521; grid[x % 500] += i % 10 }
    for (i = 0; i < 500; i++) total += grid[i]
    print lines, chars, sum, hits, last, many, weight, x, total
}
