#!/bin/sh
# The first program of calque's Debian guest. Kernel parameters it knows:
#   root=DEVICE or calque.root=DEVICE   mount it and start its own init (init=, rootfstype=, rootflags=, ro)
#   calque.run=COMMAND                  run a percent-encoded (or "quoted") command, then power off
export PATH=/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs -o mode=755 tmpfs /run
echo calque >/proc/sys/kernel/hostname

# Load drivers for the devices that are there: first those on PCI, then what they reveal on the virtio bus.
for bus in pci virtio; do
    aliases=
    for file in /sys/bus/$bus/devices/*/modalias; do
        [ -e "$file" ] && read -r alias <"$file" && aliases="$aliases $alias"
    done
    [ -n "$aliases" ] && modprobe -aq $aliases 2>/dev/null
done

root= type= flags= mode=rw program=/sbin/init run= quoted=
read -r cmdline </proc/cmdline
for word in $cmdline; do
    case $word in
    root=* | calque.root=*) root=${word#*=} ;;
    rootfstype=*) type=${word#*=} ;;
    rootflags=*) flags=,${word#*=} ;;
    init=*) program=${word#*=} ;;
    ro | rw) mode=$word ;;
    calque.run=*) run=${word#*=} ;;
    esac
done
case $run in
'"'*) # The kernel hands quotes on as they are: take everything up to the closing one.
    run=${cmdline#*calque.run=\"}
    run=${run%%\"*}
    ;;
*%*) # Percent-decoding: backslashes are kept, %41 becomes \x41, and printf does the rest.
    run=$(echo -n "$run" | sed 's/\\/\\\\/g; s/%\([0-9A-Fa-f][0-9A-Fa-f]\)/\\x\1/g')
    run=$(printf '%b' "$run")
    ;;
esac

if [ -n "$root" ]; then
    tries=0
    device=
    while [ $tries -lt 50 ]; do
        case $root in
        UUID=* | LABEL=*) device=$(findfs "$root" 2>/dev/null) ;;
        *) device=$root ;;
        esac
        [ -b "$device" ] && break
        tries=$((tries + 1))
        usleep 100000
    done
    if mount ${type:+-t "$type"} -o "$mode$flags" "$device" /mnt; then
        if [ -x "/mnt$program" ] || [ -L "/mnt$program" ]; then
            for place in proc sys dev run; do
                mkdir -p /mnt/$place
                mount -o move /$place /mnt/$place
            done
            exec switch_root /mnt "$program" <>/mnt/dev/console >&0 2>&1
        fi
        echo "calque: $root has no $program; here is a shell, with it mounted on /mnt"
    else
        echo "calque: cannot mount $root; here is a shell"
    fi
fi

mkdir /dev/pts /dev/shm
mount -t devpts -o gid=5,mode=620 devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /tmp
ln -s /proc/mounts /etc/mtab
ln -s /proc/self/fd /dev/fd

# /dev/console can be nobody's controlling terminal, so Ctrl-C needs the device behind it.
read -r consoles </sys/class/tty/console/active
terminal=${consoles##* }
[ -c "/dev/$terminal" ] || terminal=console

if [ -n "$run" ]; then
    setsid -c sh -c ". /etc/profile; $run" <>"/dev/$terminal" >&0 2>&1
    echo "calque.run: status $?"
    sync
    umount -a -r 2>/dev/null
    poweroff -f
fi

cat >/etc/inittab <<END
$terminal::respawn:-/bin/sh
::ctrlaltdel:/bin/reboot
::shutdown:/bin/umount -a -r 2>/dev/null
END
exec init
