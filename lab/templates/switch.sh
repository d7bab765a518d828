#!/bin/sh
# Makes the host's virtual switch: tunnels and the way outside go through eth1. Everything is
# forwarded in user space (netdev), so the kernel needs no module.
set -e
ovs-vsctl --timeout=60 \
  -- set Open_vSwitch . external_ids:system-id=@HOST@ external_ids:hostname=@HOST@ \
     external_ids:ovn-remote=tcp:@VIP@:6642 \
     external_ids:ovn-encap-type=geneve external_ids:ovn-encap-ip=@OUTER@ \
     external_ids:ovn-bridge=br-int external_ids:ovn-bridge-datapath-type=netdev \
     external_ids:ovn-bridge-mappings=physnet1:br-ex \
     external_ids:ovn-cms-options=@CMS@ \
     external_ids:ovn-remote-probe-interval=60000 external_ids:ovn-openflow-probe-interval=60 \
     other_config:n-handler-threads=1 other_config:n-revalidator-threads=1 \
  -- --may-exist add-br br-ex -- set bridge br-ex datapath_type=netdev fail-mode=standalone \
  -- --may-exist add-port br-ex eth1
ip link set eth1 up
ip addr replace @OUTER@/24 dev br-ex
ip link set br-ex up
