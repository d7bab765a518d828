# Runs a schema command, again as long as its exit code says that more is to be done. Joined
# behind REQUEST; runs as a transient unit, so that a lost connection does not cut a migration.
import subprocess
import sys

for number in range(1, REQUEST['passes_max'] + 1):
    code = subprocess.call(REQUEST['argv'], stdin=subprocess.DEVNULL)
    print('pass %d: exit %d' % (number, code), flush=True)
    if code not in REQUEST['rerun']:
        # A signal is negative here; a shell's way of saying it keeps it a positive number.
        sys.exit(code if code >= 0 else 128 - code)
print('gave up after %d passes that all said that more is to be done' % REQUEST['passes_max'])
sys.exit(REQUEST['stuck_code'])
