//! The programs about snapshots, run by the Python of this machine. What needs a MariaDB server is
//! tried in the lab; here a stand-in is killed before and after everything that it is asked.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

const PARTS: [&str; 4] = [
    include_str!("../src/host/snapshot/common.py"),
    include_str!("../src/host/snapshot/scratch.py"),
    include_str!("../src/host/snapshot/take.py"),
    include_str!("../src/host/snapshot/restore.py"),
];

fn succeeds(test: &str) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("program.py");
    std::fs::write(&path, [&PARTS.concat(), "\nHERE = os.path.dirname(__file__)\n", test].concat()).unwrap();
    let output = Command::new("/usr/bin/python3").args(["-I", "-B"]).arg(path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

const DUMP: &str = r#"
def text(database='nova', counter=9, rows=('1', '2'), end=True):
    return [b'-- MariaDB dump\n', b'SET NAMES utf8mb4;\n',
            b'-- Current Database: `%s`\n' % database.encode(),
            b'CREATE DATABASE /*!32312 IF NOT EXISTS*/ `%s` /*!40100 DEFAULT CHARACTER SET utf8mb3 */;\n' % database.encode(),
            b'USE `%s`;\n' % database.encode(),
            b'-- Table structure for table `a`\n', b'CREATE TABLE `a` (\n',
            b') ENGINE=InnoDB AUTO_INCREMENT=%d DEFAULT CHARSET=utf8mb3;\n' % counter,
            b'-- Dumping data for table `a`\n', b'INSERT INTO `a` VALUES\n'] + [
            b'(%s),\n' % row.encode() for row in rows] + [
            b'-- Dumping routines for database \'nova\'\n'] + [b'-- Dump completed\n'] * end

def seen(*given, names=None, **named):
    digests = Digests(names)
    for line in text(*given, **named):
        assert digests(line) == line
    return digests.tables()

def fails(function, *arguments, words=''):
    try:
        function(*arguments)
    except Failed as failed:
        assert words in str(failed), failed
        return
    raise AssertionError('it did not fail')
"#;

#[test]
fn copies_are_compared_by_the_text_of_their_tables() {
    succeeds(&format!(
        "{DUMP}{}",
        "
assert set(seen()['nova']) == {'', 'a'}
# A counter moves on by itself; another name is another name and nothing else.
assert differing(seen(), seen(counter=77)) == []
assert differing(seen(), seen(database='nova_restored_1', names={'nova_restored_1': 'nova'})) == []
assert differing(seen(), seen(rows=('1', '3'))) == ['nova.a']
assert differing(seen(), seen(rows=('1',))) == ['nova.a']
assert differing(seen(), {}) == ['nova.(routines, events, views)', 'nova.a']
def cut():
    seen(end=False)
fails(cut, words='without its last line')
each = renaming({'nova': 'nova_restored_1'})
renamed = [each(line) for line in text()]
assert renamed[3].startswith(b'CREATE DATABASE /*!32312 IF NOT EXISTS*/ `nova_restored_1` /*!40100'), renamed
assert renamed[4] == b'USE `nova_restored_1`;\\n', renamed
assert renamed[:3] + renamed[5:] == text()[:3] + text()[5:]
fails(each, b'USE `mysql`;\\n', words='not said to hold')
fails(each, b'USE `nova` ; DROP\\n'.replace(b'nova', b'x'), words='not said to hold')
"
    ));
}

#[test]
fn a_stream_that_breaks_says_where_and_leaves_nobody() {
    succeeds(&format!(
        "{DUMP}{}",
        r#"
same = lambda line: line
path = os.path.join(HERE, 'copy.sql' + packing(None)[1])
with open(path, 'wb') as file:
    pump(['/bin/sh', '-c', 'seq 1 50000'], packing(None)[0], same, 'packing', file)
lines = []
pump(unpacking(path, None), None, lambda line: lines.append(line) or line, 'unpacking')
assert lines[-1] == b'50000\n' and len(lines) == 50000
fails(pump, ['/bin/sh', '-c', 'echo a; echo no such database >&2; exit 3'], ['/bin/cat'], same, 'copying',
      words='copying: sh: exit 3: no such database')
fails(pump, ['/bin/sh', '-c', 'yes'], ['/bin/sh', '-c', 'read x; echo disk full >&2; exit 4'], same, 'copying',
      words='exit 4: disk full')
with open(path, 'r+b') as file:
    file.truncate(os.path.getsize(path) // 2)
fails(pump, unpacking(path, None), None, same, 'unpacking', words='unpacking: bash: exit 1')
class Stop(BaseException):
    pass
def stop(line):
    raise Stop()
try:
    pump(['/bin/sh', '-c', 'echo a; sleep 1000'], ['/bin/sh', '-c', 'sleep 1000'], stop, 'copying')
except Stop:
    pass
assert subprocess.run(['ps', '--ppid', str(os.getpid()), '-o', 'args='], stdout=subprocess.PIPE
                      ).stdout.decode().count('sleep') == 0
"#
    ));
}

#[test]
fn a_key_that_others_can_read_and_a_copy_that_changed_are_refused() {
    succeeds(&format!(
        "{DUMP}{}",
        r#"
real, tool = tool, lambda *names: '/usr/bin/' + names[0]
key = os.path.join(HERE, 'key')
fails(check_key, key, words='No such file')
with open(key, 'w') as file:
    file.write('AGE-SECRET-KEY-1\n')
os.chmod(key, 0o640)
fails(check_key, key, words='chmod 600')
os.chmod(key, 0o600)
check_key(key)
copy = {'service': 'nova', 'file': 'nova-a.sql.gz', 'bytes': 3, 'encrypted': False,
        'sha256': hashlib.sha256(b'abc').hexdigest()}
fails(check_copy, HERE, copy, None, words='is gone')
with open(os.path.join(HERE, copy['file']), 'wb') as file:
    file.write(b'abc')
assert check_copy(HERE, copy, None) == os.path.join(HERE, copy['file'])
fails(check_copy, HERE, dict(copy, encrypted=True), None, words='snapshot_key_file')
with open(os.path.join(HERE, copy['file']), 'wb') as file:
    file.write(b'abd')
fails(check_copy, HERE, copy, None, words='checksum differs')
# The path of the key is all that a command line shows of it.
assert 'AGE-SECRET' not in ' '.join(packing(key)[0] + unpacking('/x/copy.sql.gz.age', key))
"#
    ));
}

#[test]
fn a_scratch_server_has_temporary_files_of_its_own() {
    succeeds(
        r"
USER = pwd.getpwuid(os.geteuid()).pw_name
scratch = Scratch(HERE, {})
directory, = [option.split('=')[1] for option in scratch.options if option.startswith('--tmpdir=')]
assert os.path.dirname(directory) == scratch.directory and os.listdir(directory) == []
# mariadb-install-db starts a server, too.
assert scratch.options[0] == '--no-defaults'
scratch.__exit__()
assert not os.path.exists(directory)
",
    );
}

#[test]
fn old_snapshots_go_and_needed_ones_stay() {
    succeeds(
        r"
def snapshot(name, at, services, verified=True, cloud='c'):
    directory = os.path.join(HERE, 'root', name)
    os.makedirs(directory)
    for service in services:
        write_whole(os.path.join(directory, service + '-x.sql.gz' + SUFFIX), {
            'format': FORMAT, 'service': service, 'cloud': cloud, 'taken_at': at, 'file': service + '-x.sql.gz',
            'verified_at': at if verified else None})
root = os.path.join(HERE, 'root')
snapshot('c-1', '2026-01', ['nova'])
snapshot('c-2', '2026-02', ['cinder'])
snapshot('c-3', '2026-03', ['nova'])
snapshot('c-4', '2026-04', ['nova'], verified=False)
snapshot('c-5', '2026-05', ['nova'])
snapshot('d-1', '2025-01', ['nova'], cloud='d')
os.makedirs(os.path.join(root, 'something'))
# Of nova there is a newer verified one than c-3, c-1 and the broken c-4; of cinder there is no other.
assert sorted(prune(root, os.path.join(root, 'c-5'), 'c', 1)) == ['c-1', 'c-3', 'c-4']
assert sorted(os.listdir(root)) == ['c-2', 'c-5', 'd-1', 'something']
snapshot('c-6', '2026-06', ['nova', 'cinder'], verified=False)
# The present one stays although others are whole, and what is not verified covers nothing.
assert prune(root, os.path.join(root, 'c-6'), 'c', 1) == []
assert prune(root, os.path.join(root, 'c-6'), 'c', 9) == []
os.makedirs(os.path.join(root, '.deleting-c-0'))
os.makedirs(os.path.join(root, SCRATCH + 'dead'))
os.makedirs(os.path.join(root, SCRATCH + 'living'))
lock = open(os.path.join(root, SCRATCH + 'living', 'lock'), 'w')
fcntl.flock(lock, fcntl.LOCK_EX)
sweep(root)
assert [name for name in os.listdir(root) if name.startswith('.')] == [SCRATCH + 'living']
",
    );
}

/// A server that holds databases as a dictionary, and that kills its asker before or after the n-th
/// statement that changes something.
const SERVER: &str = r"
class Killed(BaseException):
    pass

class Fake:
    def __init__(self, databases, kill_at=None, refuse=False):
        self.databases, self.kill_at, self.refuse, self.changes, self.connected = databases, kill_at, refuse, 0, []

    def tables(self, names):
        return {name: sorted(self.databases[name]) for name in names if name in self.databases}

    def rows(self, sql):
        if 'processlist' in sql:
            return self.connected
        if 'schemata' in sql:
            return [['utf8mb3', 'utf8mb3_general_ci']]
        if 'COUNT(*)' in sql:
            return [['0']]
        if 'referential' in sql or sql == 'SELECT 1':
            return []
        for moment in ('before', 'after'):
            if (self.changes, moment) == self.kill_at:
                raise Killed()
            if moment == 'before':
                if self.refuse and 'RENAME' in sql:
                    raise Failed('lock wait timeout')
                self.change(sql)
        self.changes += 1
        return []

    def change(self, sql):
        for statement in re.findall(r'CREATE DATABASE IF NOT EXISTS `(\w+)`', sql):
            self.databases.setdefault(statement, {})
        for statement in re.findall(r'DROP DATABASE IF EXISTS `(\w+)`', sql):
            assert not self.databases.get(statement), 'a database with tables was dropped'
            self.databases.pop(statement, None)
        for one, table, other, name in re.findall(r'`(\w+)`\.`(\w+)` TO `(\w+)`\.`(\w+)`', sql):
            assert table not in self.databases[other], 'a table was overwritten'
            self.databases[other][table] = self.databases[one].pop(table)

def begin():
    state = {'phase': 'loaded', 'service': 'nova', 'snapshot': 'c-1', 'taken_at': ''}
    for kind in ('restored', 'before', 'undone'):
        state[kind] = {name: '%s_%s_1' % (name, kind) for name in ('n1', 'n2')}
    write_whole(state_path(HERE, 'nova'), state)
    return {'n1': {'a': 'old', 'b': 'old'}, 'n2': {'c': 'old'},
            'n1_restored_1': {'a': 'copy', 'b2': 'copy'}, 'n2_restored_1': {'c': 'copy'}}

BEGUN = {'n1': {'a': 'old', 'b': 'old'}, 'n2': {'c': 'old'}}
COPY = {'n1': {'a': 'copy', 'b2': 'copy'}, 'n2': {'c': 'copy'}}

def held(databases, kind=''):
    return {name: databases.get(name + kind) for name in ('n1', 'n2')}

def phase():
    return read_json(state_path(HERE, 'nova'))['phase']

def use(fake):
    global Server
    Server = lambda *_: fake
    return fake
";

#[test]
fn an_exchange_that_is_killed_anywhere_is_finished_by_the_next_one() {
    succeeds(&format!(
        "{SERVER}{}",
        r"
kills = 0
for function, kept, place in ((swap, '_before_1', COPY), (undo, '_undone_1', BEGUN)):
    for number in range(9):
        for moment in ('before', 'after'):
            databases = begin()
            if function is undo:
                use(Fake(databases))
                swap(HERE, 'nova')
                end(HERE, 'nova')
            use(Fake(databases, (number, moment)))
            try:
                function(HERE, 'nova')
            except Killed:
                kills += 1
                # Never a mixture: all tables in place are of the same side.
                assert held(databases) in (BEGUN, COPY), databases
                use(Fake(databases))
                function(HERE, 'nova')
            assert held(databases) == place, databases
            assert held(databases, kept) == (BEGUN if function is swap else COPY), databases
            assert len(databases) == 4, databases
            assert phase() == ('done' if function is swap else 'kept')
assert kills >= 12, kills
# A second call changes nothing, and what was taken back is not taken back twice.
databases = begin()
use(Fake(databases))
swap(HERE, 'nova')
swap(HERE, 'nova')
assert held(databases) == COPY
undo(HERE, 'nova')
try:
    undo(HERE, 'nova')
    raise SystemExit('it was taken back twice')
except Failed as failed:
    assert 'taken back' in str(failed), failed
"
    ));
}

#[test]
fn an_exchange_that_is_refused_changes_nothing() {
    succeeds(&format!(
        "{SERVER}{}",
        r"
databases = begin()
use(Fake(databases, refuse=True))
try:
    swap(HERE, 'nova')
    raise SystemExit('a refused exchange was taken for one')
except Failed as failed:
    assert 'lock wait' in str(failed), failed
assert held(databases) == BEGUN and phase() == 'loaded'
GONE_S = -1
use(Fake(databases)).connected = [['nova', 'ctl1:3311', 'n1']]
try:
    swap(HERE, 'nova')
    raise SystemExit('tables in use were exchanged')
except Failed as failed:
    assert 'nova@ctl1 (n1)' in str(failed), failed
assert held(databases) == BEGUN and phase() == 'loaded'
use(Fake(databases))
swap(HERE, 'nova')
cancel(HERE, 'nova')
assert held(databases) == COPY and phase() == 'done'
# Another snapshot is not put in place before this one's restore is at its end.
write_whole(os.path.join(HERE, 'nova-x.sql.gz' + SUFFIX), {
    'format': FORMAT, 'service': 'nova', 'taken_at': '', 'verified_at': '', 'file': 'nova-x.sql.gz'})
sweep = lambda root: None
write_whole(state_path(os.path.dirname(HERE), 'nova'), dict(read_json(state_path(HERE, 'nova')), snapshot='other'))
try:
    prepare(HERE, 'nova', None)
    raise SystemExit('two restores at once')
except Failed as failed:
    assert 'from snapshot other' in str(failed), failed
finally:
    os.unlink(state_path(os.path.dirname(HERE), 'nova'))
"
    ));
}
