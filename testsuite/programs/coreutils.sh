# GNU coreutils, and what stands beside them: sorting, checksums, numbers, formats.
perl -e 'my $s = 88172645463325252; for (1 .. 60000) { $s ^= ($s << 13) & ~0; $s ^= $s >> 7; $s ^= ($s << 17) & ~0;
    printf "%d %.9g %s %x\n", $s % 1000003, ($s % 99991) / 7 - 5000, join("", map { chr(97 + ($s >> $_) % 26) } 3 .. 12), $s }' >data
echo "== data"; sha256sum <data
echo "== sort"
for flags in "" -n -g -h -r -u "-k2g" "-k3,3 -k1n" "-k4 -s" -R; do
    case $flags in -R) source="--random-source=data" ;; *) source= ;; esac
    sort $flags $source data | md5sum
done
sort -n data | uniq -c -w 3 | md5sum; shuf --random-source=data data | md5sum; tac data | md5sum; rev data 2>/dev/null | md5sum
awk '{ print $1 % 9973, $1 % 9973 + NR % 13 + 1 }' data | tsort | md5sum
paste -d , data data | join -t , -1 1 -2 1 - data 2>&1 | md5sum
echo "== checksums"
for tool in md5sum sha1sum sha224sum sha256sum sha384sum sha512sum b2sum "b2sum -l 160" sum "sum -s" cksum \
    "cksum -a sm3" "cksum -a blake2b" "cksum -a sha512" "cksum -a crc" "cksum -a bsd"; do
    echo "$tool"; $tool <data; for n in 0 1 3 55 56 63 64 65 111 112 127 128 129 1000; do head -c $n data | $tool; done
done
echo "== factor"
factor 1 2 97 4294967297 18446744073709551615 18446744073709551557 340282366920938463463374607431768211455 \
    170141183460469231731687303715884105727 1000000007000000049 600851475143 99999999999999999999 12345678901234567890123456789
seq 1000000000000 1000000000400 | factor | md5sum
seq 340282366920938463463374607431768211001 340282366920938463463374607431768211007 | timeout 600 factor
echo "== numbers"
seq 1 100000 | md5sum; seq -f %.17g 0 .001 3 | md5sum; seq -w 9.95 .01 10.1; seq 1e15 1e15; seq 18446744073709551610 18446744073709551620
seq -f %a -2 .37 4; seq 5 -.7 -3; seq 0x10 0x1p3 64
for n in 1 999 1000 1023 1024 99999 1048576 123456789 9999999999 1.5 -7e3; do numfmt --to=iec -- $n; numfmt --to=si -- $n; numfmt --to=iec-i --format=%.3f -- $n; done
for n in 1K 1M 3.7G 9Ti 1.5Ki; do numfmt --from=auto $n; done
printf '%a %e %.20g %5.1f %s %d %x %o %c %b\n' 1.1 -2.5e-308 0.1 99.95 text 0x7fffffffffffffff -1 077 word 'a\tb'
env printf '%.30f %.0f %.0f %.0f %La\n' 0.3 0.5 1.5 2.5 3.14159265358979323846; expr 123456789012345678901234567890 \* 987654321; expr 7 / 2 + -3
date -u -d @1234567890.123456789 +'%F %T.%N %s %j %U'; date -u -d '2000-02-29 + 1 year' +%F; date -u -d 'TZ="Asia/Tokyo" 1999-12-31 23:59:59' +%c
echo "== formats"
for format in d1 d2 d4 d8 u1 u8 x1 x8 o2 f4 f8 fD fL a c x1z; do head -c 30000 data | od -A d -t $format | md5sum; done
head -c 200 data | od -t fL -t f8 -t f4; head -c 3000 data | od -S 5 | head -5
base64 data | md5sum; base32 data | md5sum; basenc --z85 data 2>&1 | md5sum; basenc --base2msbf data | md5sum; base64 data | base64 -d | cmp - data && echo same
fold -w 37 data | md5sum; fmt -w 60 data | md5sum; pr -3 -t data | md5sum; nl data | md5sum; expand data | unexpand -a | md5sum; ptx data | head -c 3000000 | md5sum
tr a-z A-Z <data | tr -d 0-4 | tr -s ' ' | md5sum; wc data; wc -L data; csplit -s -n 3 data 5000 '{4}'; cat xx* | md5sum; split -n r/7 data piece; md5sum piece*
comm -13 xx001 xx002 | md5sum; dd if=data bs=777 skip=3 count=400 conv=swab,ucase status=none | md5sum; dd if=data conv=ebcdic status=none | md5sum
head -c -1000 data | tail -c +3000 | md5sum; tail -n 77 data | md5sum; grep -cE '([a-f])\1' data; grep -oE '[0-9]{3}\.[0-9]+' data | md5sum
sed -E 's/([0-9]+) (.*)/\2-\1/; y/abc/xyz/; n; d' data | md5sum; diff <data xx001 - | md5sum
