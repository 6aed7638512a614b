#!/bin/sh
# The first program of the benchmark's guest, and, under chroot, its twin on the bare processor. It takes one line at a
# time and answers with marker lines that begin with @@: see testsuite/src/bench/place.rs.
export PATH=/bench/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C TZ=UTC HOME=/tmp PYTHONHASHSEED=0 PERL_HASH_SEED=0 PYTHONDONTWRITEBYTECODE=1
if [ "$1" != bare ]; then
    exec </dev/ttyS0 >/dev/ttyS0 2>&1
    stty -echo -onlcr
fi
mount -t tmpfs tmpfs /tmp
cd /tmp || exit 1
echo "@@flags $(sed -n '/^flags/{s/.*://p;q}' /proc/cpuinfo)"
echo "@@ready"
while read -r word rest; do
    case $word in
    run) # A timed command; its output is kept for the checksum.
        echo @@begin
        (eval "$rest") >/tmp/out 2>/tmp/err </dev/null
        status=$?
        echo "@@end $status"
        sum=$(md5sum </tmp/out)
        [ $status = 0 ] || tail -n 3 /tmp/err
        rm -f /tmp/out
        echo "@@sum ${sum%% *}"
        ;;
    do) # An untimed command.
        (eval "$rest") </dev/null >/tmp/out 2>&1
        echo "@@done $?"
        ;;
    sync) echo "@@sync $rest" ;;
    esac
done
