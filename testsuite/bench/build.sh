#!/bin/sh
# Compiles the programs and makes the data, inside the benchmark's tree under chroot, by that tree's own tools.
set -eu
export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin
cd /bench/src
common="-static -fno-math-errno -w"
for source in *.c; do
    gcc -O2 $common -o "../bin/${source%.c}" "$source"
done
for name in matmul mandelbrot blur nbody stream sha256; do
    gcc -O3 -march=x86-64-v3 $common -o "../bin/$name-v3" $name.c
done
for name in nbody bignum structs fannkuch calls; do
    gcc -O2 -m32 -mfpmath=387 $common -o "../bin/$name-32" $name.c
done
cd /bench/data
../bin/gendata 2000000 >text
../bin/gendata 16000000 >more
xz -k -3 -c more >more.xz
gzip -c more >more.gz
bzip2 -c text >text.bz2
for name in structs sha256 strings; do
    gcc -E -P "/bench/src/$name.c" -o $name.i
done
[ -f key.pem ] || openssl genrsa -out key.pem 4096 2>/dev/null
