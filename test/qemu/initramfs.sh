#!/bin/busybox sh
# Process 1 of the initial RAM disk: mounts the machine's own root, read-only, below a layer in memory that takes all changes,
# and starts the script of the run there. Whatever fails, the kernel panics, which ends QEMU.
set -e
bb=/bin/busybox
$bb mount -t devtmpfs devtmpfs /dev
while read -r module; do $bb insmod "/modules/$module.ko"; done </modules/order
share=trans=virtio,version=9p2000.L,msize=1048576
$bb mount -t 9p -o "ro,cache=loose,$share" machine /machine
$bb mount -t tmpfs tmpfs /changes
$bb mkdir /changes/upper /changes/work
$bb mount -t overlay -o lowerdir=/machine,upperdir=/changes/upper,workdir=/changes/work overlay /root
# Without a cache: what a program writes is on the machine even if this kernel dies.
$bb mount -t 9p -o "cache=none,$share" run /root/mnt
$bb mount --move /dev /root/dev
exec $bb switch_root /root /mnt/init
