# Reads what systemd and the kernel say of the processes of a unit, and which release they have
# loaded their code from.
import glob
import os
import re
import subprocess

PROPERTIES = ['LoadState', 'ActiveState', 'SubState', 'Result', 'MainPID', 'NRestarts',
              'TimeoutStopUSec', 'Environment', 'ExecMainStartTimestampMonotonic',
              'ExecMainStatus']
SPAN_UNITS = {'us': 1e-6, 'ms': 1e-3, 's': 1, 'min': 60, 'h': 3600, 'd': 86400, 'w': 604800,
              'month': 2629800, 'y': 31557600}


def run(argv, timeout=20):
    """Exit code and output of a command; both streams together."""
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=timeout)
    except subprocess.TimeoutExpired as error:
        seen = (error.output or b'').decode('utf-8', 'replace')
        return 124, seen + '\nno end after %s s' % timeout
    except OSError as error:
        return 127, str(error)
    return done.returncode, done.stdout.decode('utf-8', 'replace')


def span_seconds(text):
    """Seconds of a systemd time span such as "1min 30s"; None for infinity."""
    if text == 'infinity':
        return None
    total = 0.0
    for number, unit in re.findall(r'([0-9.]+)([a-z]+)', text):
        total += float(number) * SPAN_UNITS[unit]
    return int(total)


def units(names):
    """Properties of units, by name."""
    if not names:
        return {}
    code, output = run(['systemctl', 'show', '--no-pager', '-p', ','.join(PROPERTIES), '--'] + names)
    if code != 0:
        raise OSError('systemctl show: exit %d: %s' % (code, output.strip()[-300:]))
    found = {}
    for name, block in zip(names, output.strip('\n').split('\n\n')):
        found[name] = dict(line.split('=', 1) for line in block.split('\n') if '=' in line)
    return found


def children():
    """Process ids of children, by their parent's."""
    found = {}
    for entry in os.listdir('/proc'):
        if not entry.isdigit():
            continue
        try:
            with open('/proc/%s/stat' % entry) as stat:
                # The command, in parentheses, may contain blanks and parentheses itself.
                fields = stat.read().rpartition(')')[2].split()
        except (OSError, IOError):
            continue
        found.setdefault(int(fields[1]), []).append(int(entry))
    return found


def descendants(pid, family):
    found, rest = [], [pid]
    while rest:
        one = rest.pop()
        found.append(one)
        rest.extend(family.get(one, []))
    return found


def package_directories(pids):
    """The package directories whose compiled modules the processes have mapped."""
    found = set()
    for pid in pids:
        try:
            with open('/proc/%d/maps' % pid, errors='replace') as maps:
                for line in maps:
                    start = line.find('/')
                    end = line.rfind('/site-packages/')
                    if 0 <= start < end:
                        found.add(line[start:end] + '/site-packages')
        except (OSError, IOError):
            continue
    return found


def normal(name):
    return re.sub(r'[-_.]+', '-', name).lower()


def installed(directory, distribution):
    """Version of a distribution in a package directory, and when it was put there."""
    for path in glob.glob(os.path.join(glob.escape(directory), '*.dist-info')):
        name, _, version = os.path.basename(path)[:-len('.dist-info')].partition('-')
        if normal(name) == normal(distribution):
            return version, os.stat(path).st_mtime
    return None


def distributions(directory):
    """Every distribution of a package directory: {normal name: (version, when it was put there)}."""
    found = {}
    for entry in os.listdir(directory):
        base, ending = os.path.splitext(entry)
        if ending not in ('.dist-info', '.egg-info'):
            continue
        # An egg's name goes on with the Python it is for: oslo.config-9.6.0-py3.11.egg-info
        name, _, version = re.sub(r'-py[0-9.]+$', '', base).partition('-')
        if name and version:
            found[normal(name)] = (version, os.stat(os.path.join(directory, entry)).st_mtime)
    return found


def release_packages(release):
    """The package directory of a release on disk."""
    found = sorted(glob.glob(os.path.join(glob.escape(release), 'lib', 'python3*', 'site-packages')))
    return found[-1] if found else None


def each(known):
    """The directories of names and patterns: patched releases are known by their pattern alone."""
    for name in known:
        if '*' in name:
            for path in sorted(glob.glob(name)):
                yield path
        else:
            yield name


def declared(path, known):
    """A release directory by the name that the cloud description gives it, where it has one."""
    real = os.path.realpath(path)
    for name in each(known):
        if os.path.realpath(name) == real:
            return name
    return real


def started_at(pid):
    """Start of a process in seconds since the epoch."""
    with open('/proc/%d/stat' % pid) as stat:
        ticks = int(stat.read().rpartition(')')[2].split()[19])
    with open('/proc/stat') as stat:
        boot = [int(line.split()[1]) for line in stat if line.startswith('btime ')][0]
    return boot + ticks / float(os.sysconf('SC_CLK_TCK'))


def loaded(pid, distribution, known, family):
    """Which version of a distribution a process and its children have loaded, from where."""
    pids = descendants(pid, family)
    found = {}
    for directory in package_directories(pids):
        there = installed(directory, distribution)
        if there:
            found[directory] = there
    if not found:
        return {'why': 'process %d has no module mapped from an environment that contains %s '
                       '(it may still be starting)' % (pid, distribution)}
    if len(found) > 1:
        return {'why': 'the processes of the unit use several environments: '
                       + ', '.join(sorted(found))}
    (directory, (version, put_at)), = found.items()
    try:
        # Two seconds are the resolution of start times and of some file systems.
        started = started_at(pid) + 2
        if put_at > started:
            return {'why': '%s was changed in %s after process %d had started, so what it runs '
                           'cannot be told' % (distribution, directory, pid)}
    except (OSError, IOError):
        return {'why': 'process %d ended while it was looked at' % pid}
    release = os.path.dirname(os.path.dirname(os.path.dirname(directory)))
    replaced = sorted(name for name, (_, at) in distributions(directory).items() if at > started)
    return {'version': version, 'release': declared(release, known), 'replaced': replaced}


def environment(properties, pid):
    """Concurrency settings of a unit: what its process was started with, else what is declared."""
    import shlex
    texts = shlex.split(properties.get('Environment', ''))
    try:
        with open('/proc/%d/environ' % pid, 'rb') as file:
            texts += file.read().decode('utf-8', 'replace').split('\0')
    except (OSError, IOError):
        pass
    pairs = [text.split('=', 1) for text in texts if '=' in text]
    return {name: value for name, value in pairs
            if name.startswith('OS_') and 'EVENTLET' in name}


def unit_report(wanted, properties, known, family):
    """One declared unit: {unit, distribution, link} and its properties, read."""
    if properties.get('LoadState') != 'loaded':
        return {'why': 'systemd says that unit %s is %s'
                       % (wanted['unit'], properties.get('LoadState', 'unknown'))}
    pid = int(properties['MainPID'])
    if pid:
        code = loaded(pid, wanted['distribution'], known, family)
    else:
        code = {'why': 'no process runs: the unit is %s (%s, result %s)' % (
            properties['ActiveState'], properties['SubState'], properties['Result'])}
    link = wanted['link']
    if os.path.islink(link):
        link = {'value': declared(link, known)}
    else:
        link = {'why': '%s is not a symbolic link' % link}
    with open('/proc/uptime') as uptime:
        up = float(uptime.read().split()[0])
    return {
        'active': properties['ActiveState'], 'sub': properties['SubState'],
        'result': properties['Result'], 'pid': pid, 'restarts': int(properties['NRestarts']),
        'exit_status': int(properties['ExecMainStatus'] or 0),
        'running_s': max(0.0, up - int(properties['ExecMainStartTimestampMonotonic']) / 1e6) if pid else 0.0,
        'timeout_stop_s': span_seconds(properties['TimeoutStopUSec']),
        'environment': environment(properties, pid), 'code': code, 'link': link,
    }
