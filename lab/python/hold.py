# SPDX-License-Identifier: Apache-2.0
"""Holds one TCP connection to a guest's echo open and talks over it ten times
a second, until SIGINT or until the connection breaks. A guest that restarted
knows nothing of the connection, so one that holds tells that it never did.

    hold.py ADDRESS

Prints one JSON object at the end: answers, longest_gap_ms between two of them,
and broken: why the connection ended, or null if it held.
"""

import json
import select
import signal
import socket
import sys
import time

INTERVAL_S = 0.1


class Stopped(Exception):
    pass


def stop(*_):
    raise Stopped


def talk(address, seen):
    with socket.create_connection((address, 7), timeout=10) as guest:
        guest.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        guest.setblocking(False)
        last = due = time.monotonic()
        while True:
            now = time.monotonic()
            if now >= due:
                try:
                    guest.send(b'.')
                except BlockingIOError:
                    pass
                due = now + INTERVAL_S
            if not select.select([guest], [], [], max(0, due - now))[0]:
                seen['silence_ms'] = round((time.monotonic() - last) * 1000)
                continue
            if not guest.recv(4096):
                raise ConnectionError('the guest closed it')
            now = time.monotonic()
            gap = round((now - last) * 1000)
            seen['longest_gap_ms'] = max(seen['longest_gap_ms'], gap)
            seen['answers'] += 1
            seen['silence_ms'] = 0
            last = now


def main():
    seen = {'answers': 0, 'longest_gap_ms': 0, 'silence_ms': 0, 'broken': None}
    signal.signal(signal.SIGINT, stop)
    try:
        talk(sys.argv[1], seen)
    except Stopped:
        pass
    except OSError as error:
        when = time.strftime('%H:%M:%S', time.gmtime())
        seen['broken'] = '%s at %s' % (str(error) or type(error).__name__, when)
    # A guest that has fallen silent for good has a gap up to now.
    seen['longest_gap_ms'] = max(seen['longest_gap_ms'], seen.pop('silence_ms'))
    json.dump(seen, sys.stdout)


main()
