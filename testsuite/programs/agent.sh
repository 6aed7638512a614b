#!/bin/sh
# The first program of the guest of programs.sh, and, under chroot, its twin on the bare processor. Runs the jobs named in
# /jobs/list one by one, each in an empty folder, and keeps what each prints and its status in /jobs/out.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C TZ=UTC HOME=/tmp
export PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1 PERL_HASH_SEED=0 PERL_PERTURB_KEYS=0
umask 022
if [ "$1" != bare ]; then
    exec </dev/ttyS0 >/dev/ttyS0 2>&1
    stty -echo -onlcr
fi
mount -t tmpfs tmpfs /tmp
mkdir -p /jobs/out
echo "@@flags $(sed -n '/^flags/{s/.*://p;q}' /proc/cpuinfo)"
while read -r job; do
    echo "@@job $job"
    mkdir "/tmp/$job" && cd "/tmp/$job" || exit 1
    sh "/jobs/programs/$job.sh" >"/jobs/out/$job" 2>&1 </dev/null
    echo "status $?" >>"/jobs/out/$job"
    cd / && rm -rf "/tmp/$job"
    echo "@@done"
done </jobs/list
sync
[ "$1" = bare ] || umount /jobs
echo "@@end"
# A guest whose first program ends would panic.
[ "$1" = bare ] || exec sleep infinity
