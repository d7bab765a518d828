# What Volutus asks of a host. Joined behind serve.py and process.py.
import configparser
import csv
import hashlib
import shlex
import shutil
import socket
import time

WORK = '/run/volutus-work'
DRAINED = '/run/volutus-drained'
LAST_CHECK = {}
OUTPUT_BYTES_MAX = 16384


@operation
def unit(wanted, known):
    """One unit, as it is now."""
    return unit_report(wanted, units([wanted['unit']])[wanted['unit']], known, children())


@operation
def journal(unit, lines):
    """The last lines of a unit's log."""
    code, output = run(['journalctl', '--no-pager', '-o', 'short-iso', '-n', str(lines), '-u', unit])
    return output if code == 0 else 'journalctl: exit %d: %s' % (code, output)


@operation
def hangup(unit):
    """SIGHUP to the unit's main process. (`--kill-who` is read by old and new systemd alike.)"""
    code, output = run(['systemctl', 'kill', '-s', 'HUP', '--kill-who=main', unit])
    return {'code': code, 'output': output}


@operation
def haproxy(path, command):
    """One command of HAProxy's runtime API."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(5)
        try:
            connection.connect(path)
        except OSError as error:
            raise Refusal('HAProxy does not answer on %s: %s' % (path, error))
        connection.sendall(command.encode('utf-8') + b'\n')
        parts = []
        while True:
            part = connection.recv(65536)
            if not part:
                return b''.join(parts).decode('utf-8', 'replace')
            parts.append(part)


def drain_mark(backend, server):
    # HAProxy keeps no reason with a drained server, so the reason is kept beside it. A reboot
    # takes both away.
    return os.path.join(DRAINED, '%s@%s' % (backend.replace('/', '_'), server.replace('/', '_')))


@operation
def drain_note(backend, server, owner):
    """Notes on behalf of whom a server is drained; without an owner the note is removed."""
    path = drain_mark(backend, server)
    if owner is not None:
        os.makedirs(DRAINED, mode=0o700, exist_ok=True)
        with open(path, 'w') as file:
            file.write(owner)
        return None
    for remove, name in ((os.unlink, path), (os.rmdir, DRAINED)):
        try:
            remove(name)
        except OSError:
            pass
    return None


@operation
def drain_owner(backend, server):
    """On behalf of whom Volutus drained a server; nothing where it did not."""
    try:
        with open(drain_mark(backend, server)) as file:
            return file.read()
    except (OSError, IOError):
        return None


@operation
def packages(releases):
    """Versions in release directories: {path: distribution} pairs in, versions out."""
    found = []
    for path, distribution in releases:
        directory = release_packages(path)
        there = installed(directory, distribution) if directory else None
        found.append(there[0] if there else None)
    return found


def contents_digest(directory, info):
    """The digest of the files that a distribution installed, as they are now; None without a record of them. See
    LockedPackage::contents."""
    try:
        with open(os.path.join(info, 'RECORD'), newline='', encoding='utf-8') as record:
            paths = {row[0] for row in csv.reader(record) if row}
    except (OSError, IOError):
        return None
    total = hashlib.sha256()
    for path in sorted(paths):
        first = path.split('/')[0]
        # Scripts and data go elsewhere; metadata and compiled modules are written by installers.
        if path.startswith('/') or first == '..' or first.endswith('.dist-info') or path.endswith('.pyc'):
            continue
        one = hashlib.sha256()
        try:
            with open(os.path.join(directory, path), 'rb') as file:
                for part in iter(lambda: file.read(1 << 20), b''):
                    one.update(part)
            digest = one.hexdigest()
        except (OSError, IOError):
            digest = 'missing'
        total.update(('%s\0%s\n' % (path, digest)).encode('utf-8'))
    return total.hexdigest()


@operation
def contents(release, wanted):
    """Of the distributions wanted, those that a release has: {normal name: (version, digest of its files)}."""
    directory = release_packages(release)
    found = {}
    for name, (version, _) in (distributions(directory) if directory else {}).items():
        if name in wanted:
            found[name] = (version, None)
    for path in glob.glob(os.path.join(glob.escape(directory), '*.dist-info')) if directory else []:
        name = normal(os.path.basename(path)[:-len('.dist-info')].partition('-')[0])
        if name in found:
            found[name] = (found[name][0], contents_digest(directory, path))
    return found


@operation
def interpreter(release):
    """Whether the Python of a release runs on this host."""
    code, output = run([os.path.join(release, 'bin', 'python3'), '-I', '-c',
                        'import sys, sqlite3, ssl; print(sys.version.split()[0])'])
    return {'code': code, 'output': output.strip()[-2000:]}


def option_values(path, names):
    """Options of a configuration file, as `section/option`. Absent ones are left out."""
    parser = configparser.RawConfigParser(strict=False, default_section='\0', allow_no_value=True,
                                          interpolation=None)
    parser.optionxform = str
    with open(path, errors='replace') as file:
        # oslo.config takes options before the first section for those of [DEFAULT].
        parser.read_string('[DEFAULT]\n' + file.read())
    found = {}
    for name in names:
        section, _, option = name.partition('/')
        if parser.has_option(section, option):
            found[name] = parser.get(section, option) or ''
    return found


@operation
def settings(unit, files, names):
    """Options that a daemon was started with: {values}, or {why} where they cannot be known from its files."""
    files = [path for path in files if os.path.exists(path)]
    if not files:
        return {'why': 'it has none of the configuration files'}
    properties = units([unit]).get(unit, {})
    if int(properties.get('MainPID') or 0):
        started = time.time() - time.monotonic() + int(properties['ExecMainStartTimestampMonotonic']) / 1e6
        for path in files:
            if os.stat(path).st_mtime > started:
                return {'why': '%s was changed after %s had started; restart it' % (path, unit)}
    values = {}
    for path in files:
        # A later file overrides an earlier one.
        values.update(option_values(path, names))
    return {'values': values}


def kernel_release():
    """What `uname -r` says: the command and not the system call, since a container's may differ."""
    code, output = run(['uname', '-r'])
    return output.strip() if code == 0 else os.uname().release


def free_bytes(path):
    """Free space where a path is, or would be."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    stat = os.statvfs(path)
    return stat.f_bavail * stat.f_frsize


def environments(paths):
    """What is installed in release directories: {path: {name: version}}, or why it is not seen."""
    found = {}
    for path in sorted(paths):
        directory = release_packages(path)
        try:
            if directory is None:
                raise OSError('it has no lib/python3*/site-packages')
            found[path] = {'packages': {name: version for name, (version, _)
                                        in distributions(directory).items()}}
        except OSError as error:
            found[path] = {'why': 'the packages of %s cannot be listed: %s' % (path, error)}
    return found


@operation
def look(daemons, releases, root, known, options):
    """Everything that the host says of itself."""
    begun, clock = time.monotonic(), time.time()
    family = children()
    names = sorted({wanted['unit'] for wanted in daemons})
    properties = units(names)
    staged, paths = {}, set()
    for series, services in releases.items():
        there = {}
        for service, (path, distribution) in services.items():
            directory = release_packages(path)
            version = installed(directory, distribution) if directory else None
            if version:
                there[service] = version[0]
                paths.add(path)
        if there:
            staged[series] = there
    values = {}
    for path, wanted in options.items():
        if os.path.exists(path):
            values[path] = option_values(path, wanted)
    seen = [unit_report(wanted, properties.get(wanted['unit'], {}), known, family) for wanted in daemons]
    # What a patch left is told as well: the way back of an upgrade may lead there.
    paths.update(path for path in each(name for name in known if '*' in name) if release_packages(path))
    paths.update(unit['code']['release'] for unit in seen if 'release' in unit.get('code', {}))
    report = {
        'boot_id': boot_now(), 'kernel': kernel_release(),
        'python': '.'.join(str(part) for part in sys.version_info[:3]),
        'release_free_bytes': free_bytes(root), 'root_free_bytes': free_bytes('/'),
        'staged': staged, 'options': values, 'clock_s': clock,
        'environments': environments(paths), 'daemons': seen,
    }
    report['took_s'] = time.monotonic() - begun
    return report


def unit_of(attempt):
    return 'volutus-%s.service' % attempt


def is_active(unit):
    # 3 and 4 say that it is not. All else is no answer, on a host that is busy beyond reason: what is
    # taken for dead would be begun a second time.
    return run(['systemctl', 'is-active', '-q', unit])[0] not in (3, 4)


def output_of(directory):
    try:
        with open(os.path.join(directory, 'output'), 'rb') as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - OUTPUT_BYTES_MAX))
            return file.read().decode('utf-8', 'replace')
    except (OSError, IOError):
        return ''


@operation
def work_state(run_id, attempt):
    """How far remote work is: absent, running, finished (with exit code), or died."""
    directory = os.path.join(WORK, run_id, attempt)
    result = os.path.join(directory, 'exit')
    # systemd is asked at most once a second: that only finds work which was killed, while
    # ordinary ends are seen at once by the file.
    active = True
    if not os.path.exists(result) and time.monotonic() - LAST_CHECK.get(attempt, -9.0) > 1:
        active = is_active(unit_of(attempt))
        LAST_CHECK[attempt] = time.monotonic()
    # The file is looked for after systemd was asked, since work may end in between.
    if os.path.exists(result):
        with open(result) as file:
            return {'state': 'finished', 'exit_code': int(file.read()), 'output': output_of(directory)}
    if active:
        return {'state': 'running', 'output': output_of(directory)}
    if os.path.isdir(directory):
        return {'state': 'died', 'output': output_of(directory)}
    return {'state': 'absent', 'output': ''}


@operation
def work_rival(attempt, description):
    """Another attempt at the same thing that still runs on this host."""
    code, output = run(['systemctl', 'list-units', '--plain', '--no-legend', '--no-pager',
                        '--state=active,activating,deactivating', 'volutus-*.service'])
    if code != 0:
        raise Refusal('systemctl list-units: exit %d: %s' % (code, output.strip()[-300:]))
    for line in output.split('\n'):
        name = line.split(' ', 1)[0]
        if name and name != unit_of(attempt):
            said = run(['systemctl', 'show', '-p', 'Description', '--value', '--', name])[1].strip()
            if said == description:
                return name
    return None


@operation
def work_begin(run_id, attempt, description, argv, program):
    """Begins work in a transient unit of its own, which outlives this connection."""
    directory = os.path.join(WORK, run_id, attempt)
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(directory, mode=0o700)
    if program is not None:
        path = os.path.join(directory, 'program.py')
        with open(path, 'w') as file:
            file.write(program)
        argv = [sys.executable, '-I', '-B', path]
    wrapper = os.path.join(directory, 'wrapper')
    with open(wrapper, 'w') as file:
        file.write('cd /\n%s >%s 2>&1 </dev/null\necho $? >%s\nmv %s %s\n' % tuple(
            [' '.join(shlex.quote(word) for word in argv)]
            + [shlex.quote(os.path.join(directory, name))
               for name in ('output', 'exit.tmp', 'exit.tmp', 'exit')]))
    code, output = run(['systemd-run', '--quiet', '--collect', '--unit=' + unit_of(attempt),
                        '--description=' + description, '--setenv=HOME=/root',
                        '--setenv=LC_ALL=C.UTF-8', '/bin/sh', wrapper])
    if code != 0:
        shutil.rmtree(directory, ignore_errors=True)
        raise Refusal('systemd-run: exit %d: %s' % (code, output.strip()[-1000:]))
    LAST_CHECK[attempt] = time.monotonic()
    return None


def boot_now():
    """Names this boot: the kernel's boot id, and when the first process began, because hosts that
    are containers share the kernel."""
    with open('/proc/sys/kernel/random/boot_id') as file:
        kernel = file.read().strip()
    with open('/proc/1/stat') as file:
        first = file.read().rpartition(')')[2].split()[19]
    return '%s-%s' % (kernel, first)


@operation
def boot(marker):
    """This boot, and the one in which a restart was ordered under that marker."""
    before = None
    if os.path.exists(marker):
        with open(marker) as file:
            before = file.read()
    return {'boot': boot_now(), 'kernel': kernel_release(), 'before': before,
            'system': run(['systemctl', 'is-system-running'])[1].strip()}


@operation
def boot_again(marker):
    """Orders a restart, after it is safely written down that it was."""
    directory = os.path.dirname(marker)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    for old in os.listdir(directory):
        # Of earlier runs; this boot has come after them.
        if old.startswith('reboot-') and os.path.join(directory, old) != marker:
            os.unlink(os.path.join(directory, old))
    with open(marker + '.new', 'w') as file:
        file.write(boot_now())
        file.flush()
        os.fsync(file.fileno())
    os.rename(marker + '.new', marker)
    answer = boot(marker)
    # A second later, so that this answer still gets through.
    code, output = run(['systemd-run', '--quiet', '--collect', '--on-active=1', 'systemctl', 'reboot'])
    if code != 0:
        os.unlink(marker)
        raise Refusal('systemd-run: exit %d: %s' % (code, output.strip()[-1000:]))
    return answer


@operation
def hold(path, seconds):
    """Lets batched work wait for so long before its next batch: until the file's time has come."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    with open(path, 'a'):
        pass
    until = time.time() + seconds
    os.utime(path, (until, until))
    return None


@operation
def work_forget(run_id, attempts):
    """Removes results: of the attempts named, and of other runs whose units are gone."""
    for other in os.listdir(WORK) if os.path.isdir(WORK) else []:
        base = os.path.join(WORK, other)
        for attempt in os.listdir(base):
            if (other != run_id or attempt in attempts) and not is_active(unit_of(attempt)):
                shutil.rmtree(os.path.join(base, attempt), ignore_errors=True)
        for directory in (base, WORK):
            try:
                os.rmdir(directory)
            except OSError:
                pass
    return None
