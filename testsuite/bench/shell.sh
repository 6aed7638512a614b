# A shell script: arithmetic, strings, functions, and many small commands and pipes. shell.sh ROUNDS
n=0 sum=0
step() { sum=$(((sum * 31 + $1) % 65521)); }
while [ $n -lt "$1" ]; do
    n=$((n + 1))
    i=0
    while [ $i -lt 200 ]; do
        i=$((i + 1))
        case $i in *7) step $((i * n)) ;; *) step $i ;; esac
    done
    word=file-$n.txt
    word=${word%.txt}
    echo "$word ${#word} ${word#file-}" >/tmp/work
    read -r name size rest </tmp/work
    step "$size"
    seq 1 50 | grep 7 | sort -rn | head -n 3 | tr '\n' ' '
    test -f /tmp/work && cat /tmp/work | wc -c
    sub=$(expr $n + 1)
    step "$sub"
done
echo "$name $rest $sum"
