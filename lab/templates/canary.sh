#!/bin/sh
# A foot inside every tenant's network: a port of neutron in a name space of its own. One line
# of the file per port: name, neutron's id, MAC, address with prefix, MTU.
set -e
mkdir -p /etc/volutus-lab
touch /etc/volutus-lab/canaries
while read -r name port mac address mtu; do
  [ -n "$mtu" ] || continue
  ip netns list | grep -qw "canary-$name" || ip netns add "canary-$name"
  device="cn-$name"
  if ! ip -n "canary-$name" link show "$device" >/dev/null 2>&1; then
    ovs-vsctl --timeout=60 -- --if-exists del-port br-int "$device" \
      -- add-port br-int "$device" -- set Interface "$device" type=internal \
      "external_ids:iface-id=$port" "external_ids:attached-mac=\"$mac\"" external_ids:iface-status=active
    ip link set "$device" address "$mac" mtu "$mtu" netns "canary-$name"
  fi
  ip -n "canary-$name" addr replace "$address" dev "$device"
  ip -n "canary-$name" link set lo up
  ip -n "canary-$name" link set "$device" up
done </etc/volutus-lab/canaries
