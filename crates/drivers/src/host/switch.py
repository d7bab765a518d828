# Stops a daemon, lets its link point to another release, and starts it. Joined behind REQUEST
# and process.py; runs as a transient unit. The last line of its output is JSON.
import json
import sys
import time


def finish(result, **more):
    print(json.dumps(dict(more, result=result)), flush=True)
    sys.exit(0 if result in ('switched', 'unchanged') else 1)


def main(unit, link, before, after, distribution, again):
    known = [after, before]
    if not os.path.islink(link):
        finish('refused', why='%s is not a symbolic link' % link)
    if release_packages(after) is None:
        finish('refused', why='%s holds no release: stage it first' % after)
    points_to = declared(link, known)
    if points_to not in known:
        finish('refused', why='%s points to %s; expected %s (or already %s)' % (
            link, points_to, before, after))
    report = unit_report({'unit': unit, 'distribution': distribution, 'link': link},
                         units([unit])[unit], known, children())
    if 'active' not in report:
        finish('refused', why=report['why'])
    # After a proof that failed, a process of the new release is not what is wanted: it may be one
    # of a row that die and are started anew, and it began before the cause was mended.
    if not again and points_to == after and report['active'] == 'active' and report['code'].get('release') == after:
        finish('unchanged', pid=report['pid'])
    begun = time.monotonic()
    # systemd honours the unit's own TimeoutStopSec; an hour is only a bound on a broken systemd.
    code, output = run(['systemctl', 'stop', unit], timeout=3600)
    stop_s = time.monotonic() - begun
    state = units([unit])[unit]
    if code != 0 or state['ActiveState'] not in ('inactive', 'failed'):
        finish('failed', why='systemctl stop %s: exit %d, the unit is %s: %s' % (
            unit, code, state['ActiveState'], output.strip()))
    killed = state['Result'] == 'timeout'
    if points_to != after:
        temporary = '%s.volutus' % link
        if os.path.lexists(temporary):
            os.unlink(temporary)
        os.symlink(after, temporary)
        # rename(2) replaces the link in one go: there is no moment without it.
        os.rename(temporary, link)
    run(['systemctl', 'reset-failed', unit])
    begun = time.monotonic()
    code, output = run(['systemctl', 'start', unit], timeout=3600)
    if code != 0:
        finish('failed', why='systemctl start %s: exit %d: %s' % (unit, code, output.strip()))
    finish('switched', stop_s=stop_s, killed=killed, start_s=time.monotonic() - begun)


main(**REQUEST)
