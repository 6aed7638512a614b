# awk, bc, dc and luajit: small languages with numbers of their own.
program='BEGIN { x = 12345; for (i = 0; i < 60000; i++) { x = (x * 1103515245 + 12345) % 2147483648; n[x % 997]++; s += sqrt(x) * sin(i) / (1 + cos(x) ^ 2); t = t substr(x, 2, 3)
    if (i % 5000 == 0) printf "%.17g %e %d %s %c %x %5.2f|%-8s|%08.3f\n", s, x / 7, x / 3, atan2(x, i), 65 + i % 26, x, exp(-i / 1e4), log(x), x / 1e6 }
  for (k = 0; k < 997; k += 100) print k, n[k]; print length(t), index(t, "777"), match(t, /[1-3]+9+/), RSTART, RLENGTH; gsub(/0+/, "-", t); print length(t), substr(t, 1000, 60)
  print 2 ^ 53 + 1, 1e300 * 1e10, -2 ^ 0.5, 7 % -3, int(-3.7), 0.1 + 0.2, 1e6, 1e16, 123456789012, 100000 * 100000, "10" + "1e2x", log(-1) == log(-1) }'
for awk in mawk gawk "gawk --posix" "gawk -M -v PREC=113"; do echo "== $awk"; $awk "$program"; done
echo "== bc and dc"
echo 'scale=400; 4*a(1); e(1); l(2); s(1); c(2)/j(1,3); sqrt(2)' | bc -l
echo '2^5000 % 10^60; 3^777; obase=16; 2^200-1; ibase=2; 101101011; obase=10; scale=30; 1/1101' | bc
echo '100k 2v p 7 3 / p 2 1000 ^ 997 % p 16o 255 p 3 5 12345678901234567890 | p' | dc
echo "== luajit"
for flags in -jon -joff; do luajit $flags - <<'END'
local bit = require "bit"
local s, h, t = 0, 0, {}
for i = 1, 300000 do s = s + math.sin(i) * math.sqrt(i) / (1 + math.exp(-i % 7)); h = bit.bxor(bit.rol(h, 5), bit.band(i * 2654435761, 0xffffff)) end
print(string.format("%.17g %x", s, bit.tohex(h) and h % 4294967296))
for i = 1, 20000 do t[i] = (i * 7919) % 10007 + i / 3 end
table.sort(t); local sum = 0; for i = 1, #t, 997 do sum = sum * 1.0001 + t[i] end print(string.format("%.17g", sum))
local ffi = require "ffi"; ffi.cdef "typedef struct { double x; float f; int64_t n; uint8_t b[7]; } v;"
local a = ffi.new("v[1000]"); for i = 0, 999 do a[i].x = i / 7; a[i].f = i / 7; a[i].n = i * 123456789123LL; a[i].b[i % 7] = i end
local n, x = 0LL, 0; for i = 0, 999 do n = n * 31 + a[i].n / (i + 1) + a[i].b[i % 7]; x = x + a[i].x - a[i].f end print(tostring(n), string.format("%.17g", x))
print(2^53 + 1, 1/0, -1 % 3, 7 % -3, 0.1 + 0.2, math.floor(-2.5), string.rep("ab", 3), ("calque"):reverse(), tostring(1e15), 5e-324, math.fmod(-7, 3), math.ldexp(.7, 9))
END
done
