#!/bin/sh
# libvirt calls this with a guest's name, what happens to it, and its definition on the standard input.
# A switch in user space reads the flags of a guest's device and writes them back a moment later. When libvirt sets it
# up in between, the device stays down for good; so it is set up once more behind the switch.
[ "$2" = started ] || exit 0
sed -n "s/.*<target dev='\(tap[^']*\)'.*/\1/p" | while read -r device; do
  ovs-vsctl --timeout=10 wait-until Interface "$device" 'ofport>0' || true
  ip link set "$device" up
done
