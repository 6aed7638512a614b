# gcc: the same sources at several -march levels. What it makes of them has to be the same file, and what that computes too.
# -Ofast without its RCPPS and RSQRTPS, for which the manual gives a bound and no value.
for march in x86-64 x86-64-v2 x86-64-v3 haswell znver3; do
    for flags in -O2 "-O3 -ftree-vectorize -funroll-loops" "-Ofast -mno-recip"; do
        gcc -w -march=$march $flags -c -o kernels.o /jobs/programs/kernels.c && gcc -o kernels kernels.o -lm
        echo "== $march $flags $(sha256sum <kernels.o)"
        ./kernels
    done
done
for flags in -O0 -Os "-O2 -mfpmath=387" "-O2 -mfpmath=both" "-O1 -mno-sse4 -mtune=bonnell"; do
    gcc -w $flags -o kernels /jobs/programs/kernels.c -lm && echo "== $flags" && ./kernels
done
echo "== files of perl's source"
for file in numeric pp_sort util; do
    for flags in "-O2 -march=x86-64" "-O3 -march=x86-64-v3"; do
        gcc -w $flags -DPERL_CORE -I/usr/lib/x86_64-linux-gnu/perl/5.36/CORE -I/perl -c -o file.o /perl/$file.c && echo "$file $flags $(sha256sum <file.o)"
    done
done
gcc -w -O2 -S -o - /jobs/programs/kernels.c | sha256sum
gcc -w -O2 -g -flto -o kernels /jobs/programs/kernels.c -lm && ./kernels | sha256sum
