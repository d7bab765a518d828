#!/bin/sh
# Says the version that this host has booted (see volutus-lab-kernel) instead of the machine's.
[ -s /run/volutus-lab-kernel ] || exec /usr/bin/uname "$@"
exec /usr/bin/uname "$@" | sed "s|$(/usr/bin/uname -r)|$(cat /run/volutus-lab-kernel)|"
