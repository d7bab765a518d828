#!/bin/sh
# Hosts share the machine's kernel. What a host has "booted" is the version that was staged in
# /etc/volutus-lab/kernel when it started, unless it is told to keep the one it had.
folder=/etc/volutus-lab
if [ ! -e $folder/keep-kernel ] || [ ! -s $folder/booted-kernel ]; then
  cp $folder/kernel $folder/booted-kernel.new
  mv $folder/booted-kernel.new $folder/booted-kernel
fi
cp $folder/booted-kernel /run/volutus-lab-kernel
mount --bind /run/volutus-lab-kernel /proc/sys/kernel/osrelease
