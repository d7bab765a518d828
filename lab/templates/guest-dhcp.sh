#!/bin/sh
# Called by udhcpc with the lease in variables.
case $1 in
  bound|renew)
    ip addr flush dev eth0
    ip addr add "$ip/$mask" dev eth0
    [ -z "$mtu" ] || ip link set eth0 mtu "$mtu"
    for gateway in $router; do ip route replace default via "$gateway"; done
    ;;
esac
