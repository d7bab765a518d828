# One API daemon of another release beside the one that runs, on another port: the same command,
# environment and user, in a mount namespace in which the old release's directory holds the new
# release. Every path of the configuration, through whatever link, then leads to the new code, and
# nothing of the host is changed. Joined behind serve.py, process.py and host.py.
SHADOWS = '/run/volutus-shadow'
LISTENS = ('http-socket', 'http11-socket', 'http', 'socket', 'uwsgi-socket', 'https')
LEFT_OUT = ('pidfile', 'pidfile2', 'safe-pidfile', 'stats', 'stats-server', 'fifo-master',
            'master-fifo', 'touch-reload', 'daemonize', 'daemonize2', 'processes', 'workers')
# Becomes the daemon: with the environment of the process that serves, which never stands in a
# command or a file, and under its user.
LAUNCH = '''
import os, sys
pid, kind = sys.argv[1:3]
with open('/proc/%s/environ' % pid, 'rb') as file:
    pairs = [one.split(b'=', 1) for one in file.read().split(b'\\0') if b'=' in one]
own = (b'NOTIFY_SOCKET', b'INVOCATION_ID', b'JOURNAL_STREAM', b'SYSTEMD_EXEC_PID', b'LISTEN_FDS',
       b'LISTEN_PID', b'LISTEN_FDNAMES', b'MAINPID', b'WATCHDOG_USEC', b'WATCHDOG_PID')
environment = {name: value for name, value in pairs if name not in own}
# A service record of its own, and a queue for replies of its own: with the old daemon's it would
# take that one's answers.
environment[b'OS_DEFAULT__HOST'] = b'volutus-shadow'
environment[b'OS_OSLO_MESSAGING_RABBIT__PROCESSNAME'] = b'volutus-shadow-' + kind.encode()
# Two of these have their sets in the same order, so that only what was changed comes in another.
environment[b'PYTHONHASHSEED'] = b'0'
with open('/proc/%s/cmdline' % pid, 'rb') as file:
    argv = file.read().rstrip(b'\\0').split(b'\\0')
with open('/proc/%s/status' % pid) as file:
    status = dict(line.rstrip('\\n').split(':', 1) for line in file)
os.chdir(os.readlink('/proc/%s/cwd' % pid))
os.setgroups([int(one) for one in status['Groups'].split()])
os.setgid(int(status['Gid'].split()[1]))
os.setuid(int(status['Uid'].split()[1]))
os.execvpe(argv[0], argv, environment)
'''


def shadow_unit(kind):
    return 'volutus-shadow-%s.service' % kind


def away_with(kind):
    """Stops a shadow and removes its files; whether there was anything."""
    name, directory = shadow_unit(kind), os.path.join(SHADOWS, kind)
    there = is_active(name)
    if there:
        code, output = run(['systemctl', 'stop', name], timeout=40)
        if code != 0 or is_active(name):
            raise Refusal('systemctl stop %s: exit %d: %s' % (name, code, output.strip()[-500:]))
    run(['systemctl', 'reset-failed', name])
    there = there or os.path.isdir(directory)
    shutil.rmtree(directory, ignore_errors=True)
    try:
        os.rmdir(SHADOWS)
    except OSError:
        pass
    return there


@operation
def shadow_stop(kind):
    return away_with(kind)


def other_port(text, address):
    """The options of uWSGI with another address to listen on; None where they have none."""
    lines, listens = [], False
    for line in text.split('\n'):
        name = line.split('=', 1)[0].strip()
        if name in LISTENS:
            listens = True
        elif name not in LEFT_OUT:
            lines.append(line)
    if not listens:
        return None
    lines.insert(lines.index('[uwsgi]') + 1 if '[uwsgi]' in lines else 0,
                 'http-socket = %s\nprocesses = 1' % address)
    return '\n'.join(lines)


@operation
def shadow_start(kind, unit, before, after, address, lifetime_s):
    """Starts it. What cannot be shadowed is refused with the reason, and nothing was started."""
    away_with(kind)
    host, _, port = address.rpartition(':')
    with socket.socket(socket.AF_INET6 if '[' in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip('[]'), int(port)))
        except OSError as error:
            raise Refusal('%s cannot be listened on: %s' % (address, error))
    if release_packages(after) is None:
        raise Refusal('%s holds no release: stage it first' % after)
    properties = units([unit])[unit]
    pid = int(properties.get('MainPID') or 0)
    if not pid:
        raise Refusal('no process of %s runs whose command could be repeated' % unit)
    with open('/proc/%d/cmdline' % pid, 'rb') as file:
        argv = [word.decode('utf-8', 'replace') for word in file.read().rstrip(b'\0').split(b'\0')]
    words = [word for word in argv if os.path.basename(word) == 'uwsgi']
    files = [word for word in argv if word.endswith('.ini')]
    if not words or len(files) != 1:
        raise Refusal('%s is not run by uWSGI with one .ini file, and in no other case it is known how '
                      'to give it another port: %s' % (unit, ' '.join(argv)[:300]))
    with open(files[0]) as file:
        text = other_port(file.read(), address)
    if text is None:
        raise Refusal('%s names no address to listen on' % files[0])
    directory = os.path.join(SHADOWS, kind)
    os.makedirs(directory, mode=0o755)
    ini = os.path.join(directory, os.path.basename(files[0]))
    shutil.copymode(files[0], shutil.copyfile(files[0], ini))
    stat = os.stat(files[0])
    os.chown(ini, stat.st_uid, stat.st_gid)
    with open(ini, 'w') as file:
        file.write(text)
    code, output = run(
        ['systemd-run', '--quiet', '--collect', '--unit=' + shadow_unit(kind),
         '--description=Volutus: shadow of %s, serves nobody' % kind,
         '-p', 'RuntimeMaxSec=%d' % lifetime_s, '-p', 'TimeoutStopSec=10', '-p', 'KillMode=mixed',
         '-p', 'LimitNOFILE=65536', '-p', 'Nice=5',
         '-p', 'BindReadOnlyPaths=%s:%s' % (os.path.realpath(after), os.path.realpath(before)),
         '-p', 'BindReadOnlyPaths=%s:%s' % (ini, os.path.realpath(files[0])),
         sys.executable, '-I', '-B', '-c', LAUNCH, str(pid), kind])
    if code != 0:
        away_with(kind)
        raise Refusal('systemd-run: exit %d: %s' % (code, output.strip()[-1000:]))
    return None


@operation
def shadow_seen(kind):
    """Whether it runs, and the last lines of its log."""
    name = shadow_unit(kind)
    active = is_active(name)
    log = '' if active else run(['journalctl', '--no-pager', '-o', 'cat', '-n', '40', '-u', name])[1]
    return {'active': active, 'log': log}


serve()
