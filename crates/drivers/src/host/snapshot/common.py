# What the programs about snapshots share: the server and its tools, the stream between two of them,
# and the descriptions that lie beside the copies. Joined behind REQUEST or serve.py; runs as root on
# the database host, over the local socket. Nothing newer than Python 3.6.
import fcntl
import hashlib
import json
import os
import re
import resource
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time

FORMAT = 1
SUFFIX = '.copy.json'
# Rows in the order of the key, so that the same rows always give the same text.
DUMP = ['--single-transaction', '--quick', '--routines', '--triggers', '--events', '--hex-blob',
        '--order-by-primary', '--skip-dump-date', '--default-character-set=utf8mb4', '--databases']


class Failed(Exception):
    """Something that could not be done, said in one sentence."""


class Damaged(Failed):
    """A copy is not what it should be."""


def tool(*names):
    for name in names:
        # Servers are not always on the path of a unit.
        found = shutil.which(name, path=os.environ.get('PATH', '') + ':/usr/sbin:/usr/local/sbin')
        if found:
            return found
    raise Failed('none of %s is installed on this host' % ', '.join(names))


def say(text):
    """A line for whoever watches: the last one is shown."""
    print(text, flush=True)


def now():
    return time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())


def quoted(name):
    return '`%s`' % name.replace('`', '``')


def literals(names):
    return ', '.join("'%s'" % name.replace('\\', '\\\\').replace("'", "\\'") for name in names) or 'NULL'


class Server:
    """A MariaDB server on this host: the cloud's own, or one whose options are given."""

    def __init__(self, options=()):
        self.options = list(options)
        self.client = [tool('mariadb', 'mysql')] + self.options + [
            '--default-character-set=utf8mb4', '--max-allowed-packet=1G']

    def rows(self, sql):
        done = subprocess.run(self.client + ['-N', '-B', '-r'], input=sql.encode('utf-8'), cwd='/',
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if done.returncode:
            raise Failed('%s: exit %d: %s' % (os.path.basename(self.client[0]), done.returncode,
                                              done.stderr.decode('utf-8', 'replace').strip()[-1000:]))
        return [line.split('\t') for line in done.stdout.decode('utf-8', 'replace').split('\n') if line]

    def tables(self, databases):
        """{database: [table]}; databases that are not there are left out."""
        found = {name: [] for (name,) in self.rows(
            'SELECT schema_name FROM information_schema.schemata WHERE schema_name IN (%s)'
            % literals(databases))}
        for database, table in self.rows(
                'SELECT table_schema, table_name FROM information_schema.tables WHERE '
                "table_schema IN (%s) AND table_type = 'BASE TABLE' ORDER BY 1, 2" % literals(databases)):
            found[database].append(table)
        return found

    def size(self, databases):
        """Bytes of rows, and of rows with their indexes."""
        (data, whole), = self.rows(
            'SELECT COALESCE(SUM(data_length), 0), COALESCE(SUM(data_length + index_length), 0) '
            'FROM information_schema.tables WHERE table_schema IN (%s)' % literals(databases))
        return int(float(data)), int(float(whole))

    def dump(self, databases):
        return [tool('mariadb-dump', 'mysqldump')] + self.options + DUMP + list(databases)


class Digests:
    """A digest of the text of every table that goes by in a dump, and of what else a database has.
    `names` gives databases other names than they have in the text."""

    def __init__(self, names=None):
        self.names, self.found = names or {}, {}
        self.database = self.current = None
        self.whole = False

    def __call__(self, line):
        if line.startswith(b'-- '):
            self.whole = line.startswith(b'-- Dump completed')
            if line.startswith(b'-- Current Database: `'):
                name = line[22:].rstrip(b'\n').rstrip(b'`').decode('utf-8')
                self.database = self.names.get(name, name)
                self.section('')
            elif line.startswith(b'-- Table structure for table `'):
                self.section(line[30:].rstrip(b'\n').rstrip(b'`').decode('utf-8'))
            elif not line.startswith(b'-- Dumping data'):
                self.section('')
        elif self.current and not line.startswith((b'USE `', b'CREATE DATABASE ')):
            # A counter moves on by itself, and is no data.
            self.current.update(re.sub(rb' AUTO_INCREMENT=\d+', b'', line) if line[:2] == b') ' else line)
        return line

    def section(self, table):
        if self.database is not None:
            self.current = self.found.setdefault((self.database, table), hashlib.sha256())

    def tables(self):
        """{database: {table: digest}}; under '' what is not a table."""
        if not self.whole:
            raise Failed('the dump ended without its last line')
        found = {}
        for (database, table), digest in self.found.items():
            found.setdefault(database, {})[table] = digest.hexdigest()
        return found


def differing(wanted, seen):
    """Tables whose text differs, in words."""
    return sorted('%s.%s' % (database, table or '(routines, events, views)')
                  for database in set(wanted) | set(seen)
                  for table in set(wanted.get(database, ())) | set(seen.get(database, ()))
                  if wanted.get(database, {}).get(table) != seen.get(database, {}).get(table))


def pump(source, sink, each, what, stdout=subprocess.DEVNULL):
    """Feeds what one command writes to another, line by line through `each`. Whatever happens, none
    of the two is left. Without a sink the lines only go through `each`."""
    told, size, children = time.monotonic(), 0, []
    with tempfile.TemporaryFile() as errors:
        try:
            reader = subprocess.Popen(source, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                      stderr=errors, cwd='/', start_new_session=True)
            children.append((source[0], reader))
            writer = sink and subprocess.Popen(sink, stdin=subprocess.PIPE, stdout=stdout,
                                               stderr=errors, cwd='/', start_new_session=True)
            if writer:
                children.append((sink[0], writer))
            try:
                for line in reader.stdout:
                    line = each(line)
                    if writer:
                        writer.stdin.write(line)
                    size += len(line)
                    if time.monotonic() - told > 1:
                        told = time.monotonic()
                        say('%s: %d MiB' % (what, size >> 20))
                if writer:
                    writer.stdin.close()
            except BrokenPipeError:
                # The exit code of the one that reads no more tells why.
                reader.kill()
            for name, child in reversed(children):
                code = child.wait()
                if code:
                    errors.seek(0)
                    raise Failed('%s: %s: exit %d: %s' % (
                        what, os.path.basename(name), code,
                        errors.read().decode('utf-8', 'replace').strip()[-1000:]))
        finally:
            for _, child in children:
                if child.poll() is None:
                    os.killpg(child.pid, signal.SIGKILL)
                    child.wait()


def packing(key_file):
    """The command that packs, and encrypts, its input; and the end of the file's name."""
    pack, end = ('zstd -qc -3', '.zst') if shutil.which('zstd') else ('gzip -c -4', '.gz')
    if key_file is None:
        return ['/bin/bash', '-c', 'exec ' + pack], end
    # What age says of a key may quote it, so that is not kept.
    return ['/bin/bash', '-c', 'set -o pipefail; %s | age --encrypt -i %s 2>/dev/null' % (
        pack, shlex.quote(key_file))], end + '.age'


def unpacking(path, key_file):
    command = '%s -dc' % ('zstd -q' if '.zst' in os.path.basename(path) else 'gzip')
    if path.endswith('.age'):
        command = '(age --decrypt -i %s %s 2>/dev/null || { echo "age: the key does not fit, or the ' \
                  'copy is damaged" >&2; exit 1; }) | %s' % (shlex.quote(key_file), shlex.quote(path), command)
    else:
        command += ' < ' + shlex.quote(path)
    return ['/bin/bash', '-c', 'set -o pipefail; ' + command]


def check_key(path):
    """The file with the key: an identity of age, for root's eyes alone. Only age reads it."""
    tool('age')
    try:
        there = os.stat(path)
    except OSError as error:
        raise Failed('the key file %s: %s' % (path, error.strerror))
    if not stat.S_ISREG(there.st_mode) or there.st_mode & 0o077 or there.st_uid != os.geteuid():
        raise Failed('the key file %s has to be a file that only root owns and can read (chmod 600)' % path)


def need_room(path, needed, what_for):
    there = os.statvfs(path)
    free = there.f_bavail * there.f_frsize
    if free < needed:
        raise Failed('%s has %d bytes free, and %d may be needed: %s' % (path, free, needed, what_for))


def digest_of(path):
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        for part in iter(lambda: file.read(1 << 20), b''):
            digest.update(part)
    return digest.hexdigest()


def sync(path):
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def write_whole(path, value):
    """Writes JSON so that a crash leaves the old content or the new."""
    with open(path + '.new', 'w') as file:
        json.dump(value, file, sort_keys=True)
    sync(path + '.new')
    os.rename(path + '.new', path)
    sync(os.path.dirname(path))


def read_json(path):
    """What a file holds; None where there is no such file."""
    try:
        with open(path) as file:
            return json.load(file)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise Failed('%s cannot be read: %s' % (path, error))


def copies(directory):
    """The copies in a snapshot's directory by service: the newest one, verified ones first."""
    found = {}
    for name in sorted(os.listdir(directory)) if os.path.isdir(directory) else []:
        try:
            copy = read_json(os.path.join(directory, name)) if name.endswith(SUFFIX) else None
        except Failed:
            continue  # no copy to rely on; one that is being written is renamed to its name at its end
        if not isinstance(copy, dict) or copy.get('format') != FORMAT:
            continue
        other = found.get(copy['service'])
        if other is None or rank(copy) > rank(other):
            found[copy['service']] = copy
    return found


def rank(copy):
    return bool(copy['verified_at']), copy['taken_at']


def copy_of(directory, service):
    copy = copies(directory).get(service)
    if copy is None:
        raise Failed('%s holds no copy of %s\'s databases' % (directory, service))
    return copy


def check_copy(directory, copy, key_file):
    """The file is what was written then, and can be read."""
    path = os.path.join(directory, copy['file'])
    if not os.path.exists(path):
        raise Damaged('%s is gone' % path)
    if os.path.getsize(path) != copy['bytes'] or digest_of(path) != copy['sha256']:
        raise Damaged('%s is not what was written: its size or checksum differs' % path)
    if copy['encrypted']:
        if key_file is None:
            raise Failed('%s is encrypted: name its key in the cloud description '
                         '([[database]] snapshot_key_file)' % path)
        check_key(key_file)
    return path


def brief(copy):
    """A copy for people and programs: all but the digests of its tables."""
    value = {key: copy[key] for key in (
        'service', 'cloud', 'run', 'databases', 'file', 'bytes', 'sha256', 'encrypted', 'taken_at',
        'verified_at', 'server')}
    value['tables'] = sum(len([name for name in each if name]) for each in copy['tables'].values())
    return value


def main(functions, do, **request):
    """Runs a program's function: what it returns, or why it failed, is the last line."""
    # A stopped unit gets this; what `finally` has to remove is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.umask(0o077)
    os.nice(10)
    try:
        value = functions[do](**request)
    except Failed as failed:
        value = {'why': str(failed)}
    except OSError as error:
        value = {'why': ': '.join(str(part) for part in (error.strerror or error, error.filename) if part)}
    print(json.dumps(value), flush=True)
    sys.exit(1 if 'why' in value else 0)
