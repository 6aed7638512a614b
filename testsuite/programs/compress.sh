# Compressors there and back: each makes the same file, and the same data of it.
perl -e 'my $s = 88172645463325252; for (1 .. 40000) { $s ^= ($s << 13) & ~0; $s ^= $s >> 7; $s ^= ($s << 17) & ~0;
    print $s % 7 ? "the quick brown $s fox " : pack("Q", $s), $s % 977 ? "" : "calque" x ($s % 300) }' >data
sha256sum <data
for pack in "gzip -n" "gzip -n -1" "gzip -n -9" bzip2 "bzip2 -1" "xz -T1" "xz -T1 -0" "xz -T1 -9e" "xz -T1 --x86 --lzma2" "xz -T1 --delta=dist=4 --lzma2" "xz -T1 --format=lzma -3" \
    "xz -T1 --check=sha256" "zstd -q --single-thread" "zstd -q --single-thread -1" "zstd -q --single-thread -19" "zstd -q --single-thread --long=20 -6" "zstd -q --single-thread --fast=5" lz4 "lz4 -9" "lz4 -BX" \
    "brotli -q 5" "brotli -q 11 -w 20"; do
    $pack -c <data >packed 2>/dev/null
    ${pack%% *} -d -c <packed 2>/dev/null | cmp - data && echo "$pack: $(wc -c <packed) $(sha256sum <packed)"
done
xz -T1 -c /bin/bash | sha256sum; zstd -q --single-thread -c /usr/bin/perl | sha256sum
mkdir some && cp data some/one && head -c 5000 data >some/two && touch -d @1e9 some/* some 2>/dev/null; tar --sort=name --mtime=@0 --owner=0 --group=0 -cf - some | gzip -n | sha256sum
head -c 300 packed >damaged; for tool in gzip bzip2 xz zstd lz4 brotli; do $tool -d -c <damaged >/dev/null 2>&1; echo "$tool $?"; done
