# Runs a schema command, again as long as its exit code says that more is to be done. Joined
# behind REQUEST; runs as a transient unit, so that a lost connection does not cut a migration.
import os
import subprocess
import sys
import time

# However slow the cloud is, a batch is done so often: work that never ends keeps the run open.
HELD_S_MAX = 300


def wait_while_held(path):
    begun = time.monotonic()
    told = False
    while time.monotonic() - begun < HELD_S_MAX:
        try:
            if os.stat(path).st_mtime <= time.time():
                return
        except OSError:
            return
        if not told:
            print('the next batch waits, because the cloud answers slowly', flush=True)
            told = True
        time.sleep(0.5)


def remove(path):
    for gone, name in ((os.unlink, path), (os.rmdir, os.path.dirname(path))):
        try:
            gone(name)
        except OSError:
            pass


# Commands that nobody waits for have one; a restart that runs in this loop has none.
hold = REQUEST.get('hold')
for number in range(1, REQUEST['passes_max'] + 1):
    if hold:
        wait_while_held(hold)
    code = subprocess.call(REQUEST['argv'], stdin=subprocess.DEVNULL)
    print('pass %d: exit %d' % (number, code), flush=True)
    if code not in REQUEST['rerun']:
        if hold:
            remove(hold)
        # A signal is negative here; a shell's way of saying it keeps it a positive number.
        sys.exit(code if code >= 0 else 128 - code)
print('gave up after %d passes that all said that more is to be done' % REQUEST['passes_max'])
sys.exit(REQUEST['stuck_code'])
