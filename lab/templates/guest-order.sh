#!/bin/sh
# One order per connection: "dirty MIB" writes that much memory again and again, "calm" ends it,
# "state" tells which.
read -r order size
case $order in
  dirty)
    case $size in ''|*[!0-9]*) echo "size missing"; exit 0;; esac
    kill $(cat /run/dirtier 2>/dev/null) 2>/dev/null
    [ -s /run/noise ] || dd if=/dev/urandom of=/run/noise bs=1M count=1 2>/dev/null
    (
      while :; do
        piece=0
        while [ $piece -lt "$size" ]; do
          dd if=/run/noise of=/tmp/dirt bs=1M seek=$piece conv=notrunc 2>/dev/null
          piece=$((piece + 1))
        done
      done
    ) </dev/null >/dev/null 2>&1 &
    echo $! >/run/dirtier
    echo "dirtying $size MiB"
    ;;
  calm)
    kill $(cat /run/dirtier 2>/dev/null) 2>/dev/null
    rm -f /run/dirtier /tmp/dirt
    echo calm
    ;;
  state)
    if [ -e /run/dirtier ]; then echo dirtying; else echo calm; fi
    ;;
  *) echo "unknown order" ;;
esac
