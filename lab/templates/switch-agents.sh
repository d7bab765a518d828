#!/bin/sh
# Makes the bridge by which tunnels and the way outside go through eth1; neutron's agent makes the others.
# Everything is forwarded in user space (netdev), so the kernel needs no module.
set -e
# What routers are set up with; the host sees the kernel's settings without being allowed to change them, but
# these are its own.
mountpoint -q /proc/sys/net || mount --bind /proc/sys/net /proc/sys/net
mount -o remount,bind,rw /proc/sys/net
ovs-vsctl --timeout=60 \
  -- set Open_vSwitch . external_ids:hostname=@HOST@ \
     other_config:n-handler-threads=1 other_config:n-revalidator-threads=1 \
  -- --may-exist add-br br-ex -- set bridge br-ex datapath_type=netdev fail-mode=standalone \
  -- --may-exist add-port br-ex eth1
ip link set eth1 up
ip addr replace @OUTER@/24 dev br-ex
ip link set br-ex up
