//! The programs that are sent to hosts, run by the Python of this one.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Command, Output};

const PROCESS: &str = include_str!("../src/host/process.py");
const SERVE: &str = include_str!("../src/host/serve.py");
const HOST: &str = include_str!("../src/host/host.py");
const DATABASE: &str = include_str!("../src/host/database.py");
const SWITCH: &str = include_str!("../src/host/switch.py");
const SCHEMA: &str = include_str!("../src/host/schema.py");

fn python(parts: &[&str]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("program.py");
    std::fs::write(&path, parts.concat()).unwrap();
    Command::new("/usr/bin/python3").args(["-I", "-B"]).arg(path).output().unwrap()
}

fn succeeds(parts: &[&str]) {
    let output = python(parts);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn spans_and_names_are_read() {
    succeeds(&[
        PROCESS,
        "
assert span_seconds('1min 30s') == 90
assert span_seconds('infinity') is None
assert span_seconds('2h 5min') == 7500
assert span_seconds('500ms') == 0
assert normal('openstack_placement') == normal('openstack-placement')
",
    ]);
}

#[test]
fn the_version_is_that_of_the_environment_that_a_process_has_mapped() {
    succeeds(&[
        PROCESS,
        "
import sys, tempfile, time
real = tempfile.mkdtemp()
release = os.path.join(real, 'releases', '2026.1-abc')
packages = os.path.join(release, 'lib', 'python3.11', 'site-packages')
os.makedirs(os.path.join(packages, 'openstack_placement-15.0.0.dist-info'))
name = os.path.join(real, '2026.1')
os.symlink(release, name)
with open(os.path.join(packages, 'module.so'), 'wb') as file:
    file.write(b'x' * 4096)
old = time.time() - 86400
os.utime(os.path.join(packages, 'openstack_placement-15.0.0.dist-info'), (old, old))
code = '''
import mmap, sys
file = open(sys.argv[1], 'rb')
mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
print('mapped', flush=True)
sys.stdin.read()
'''
child = subprocess.Popen([sys.executable, '-c', code, os.path.join(packages, 'module.so')],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
try:
    seen = loaded(child.pid, 'openstack-placement', [name], children())
    assert seen == {'version': '15.0.0', 'release': name, 'replaced': []}, seen
    # A library that was put there later is told, and does not hide what the service's own version is.
    os.makedirs(os.path.join(packages, 'Oslo.Config-9.6.0.dist-info'))
    soon = time.time() + 60
    os.utime(os.path.join(packages, 'Oslo.Config-9.6.0.dist-info'), (soon, soon))
    seen = loaded(child.pid, 'openstack-placement', [name], children())
    assert seen['replaced'] == ['oslo-config'] and seen['version'] == '15.0.0', seen
    assert 'why' in loaded(child.pid, 'nova', [name], children())
    # A package that was put there after the process had started is not what it runs.
    later = time.time() + 60
    os.utime(os.path.join(packages, 'openstack_placement-15.0.0.dist-info'), (later, later))
    seen = loaded(child.pid, 'openstack-placement', [name], children())
    assert 'was changed' in seen['why'], seen
finally:
    child.stdin.close()
    child.wait()
assert declared(os.path.join(real, '2026.1'), [name]) == name
",
    ]);
}

#[test]
fn patched_releases_are_known_by_their_pattern() {
    succeeds(&[
        PROCESS,
        "
import tempfile
real = os.path.realpath(tempfile.mkdtemp())
for name in ('2025.2', '2025.2+cve-1', '2025.2+cve-2', '2026.1'):
    os.makedirs(os.path.join(real, 'store', name))
    os.symlink(os.path.join(real, 'store', name), os.path.join(real, name))
known = [os.path.join(real, name) for name in ('2025.2', '2025.2+*', '2026.1', '2026.1+*')]
for name in ('2025.2', '2025.2+cve-2', '2026.1'):
    assert declared(os.path.join(real, 'store', name), known) == os.path.join(real, name), name
assert list(each(known[1:2])) == [os.path.join(real, '2025.2+cve-1'), os.path.join(real, '2025.2+cve-2')]
assert declared('/elsewhere', known) == '/elsewhere'
import shutil
shutil.rmtree(real)
",
    ]);
}

#[test]
fn environments_are_listed() {
    succeeds(&[
        PROCESS,
        "
def operation(function):
    return function
",
        HOST,
        "
import tempfile
release = tempfile.mkdtemp()
packages = os.path.join(release, 'lib', 'python3.11', 'site-packages')
for entry in ('openstack_placement-15.0.0.dist-info', 'oslo.config-9.6.0-py3.11.egg-info', 'nova', 'x.dist-info'):
    os.makedirs(os.path.join(packages, entry))
absent = os.path.join(release, 'absent')
found = environments({release, absent})
assert found[release] == {'packages': {'openstack-placement': '15.0.0', 'oslo-config': '9.6.0'}}, found
assert 'cannot be listed' in found[absent]['why'], found
",
    ]);
}

#[test]
fn a_systemd_that_does_not_answer_is_no_sign_of_death() {
    succeeds(&[
        SERVE,
        PROCESS,
        HOST,
        "
import tempfile
WORK = tempfile.mkdtemp()
os.makedirs(os.path.join(WORK, 'r', 'a'))
def run(argv, timeout=20):
    return code, 'said'
for code, state in ((0, 'running'), (124, 'running'), (1, 'running'), (3, 'died'), (4, 'died')):
    LAST_CHECK.clear()
    assert work_state('r', 'a')['state'] == state, (code, work_state('r', 'a'))
assert work_state('r', 'b')['state'] == 'absent'
code = 124
try:
    work_rival('a', 'what')
    raise SystemExit('nobody was asked, and yet nobody is there')
except Refusal as refusal:
    assert 'exit 124' in str(refusal), refusal
code = 0
assert work_rival('a', 'what') is None
",
    ]);
}

#[test]
fn options_are_read_as_oslo_config_reads_them() {
    succeeds(&[
        SERVE,
        PROCESS,
        HOST,
        "
import tempfile
path = os.path.join(tempfile.mkdtemp(), 'nova.conf')
with open(path, 'w') as file:
    file.write('before = 1\\n[upgrade_levels]\\ncompute = auto\\n[a]\\nsame = 1\\nsame = 2\\nmany = x,\\n  y\\n%(raw)s = z\\n')
seen = option_values(path, ['DEFAULT/before', 'upgrade_levels/compute', 'a/same', 'a/absent', 'b/absent'])
assert seen == {'DEFAULT/before': '1', 'upgrade_levels/compute': 'auto', 'a/same': '2'}, seen
",
    ]);
}

#[test]
fn settings_are_those_that_a_daemon_was_started_with() {
    succeeds(&[
        SERVE,
        PROCESS,
        HOST,
        "
import tempfile
folder = tempfile.mkdtemp()
first, second = os.path.join(folder, 'nova.conf'), os.path.join(folder, 'site.conf')
now = time.time()
for path, text in ((first, '[libvirt]\\na = 1\\nb = 1\\n'), (second, '[libvirt]\\nb = 2\\n')):
    with open(path, 'w') as file:
        file.write(text)
    os.utime(path, (now - 100, now - 100))
ago = 50
def units(names):
    return {name: {'MainPID': '7', 'ExecMainStartTimestampMonotonic': str(int((time.monotonic() - ago) * 1e6))}
            for name in names}
asked = ['libvirt/a', 'libvirt/b', 'libvirt/c']
seen = settings('nova-compute.service', [first, folder + '/absent', second], asked)
assert seen == {'values': {'libvirt/a': '1', 'libvirt/b': '2'}}, seen
# What was written since the daemon started is not what it does.
ago = 200
seen = settings('nova-compute.service', [first], asked)
assert 'nova.conf was changed' in seen['why'] and 'restart it' in seen['why'], seen
# A daemon that does not run reads its files when it starts.
units = lambda names: {name: {'MainPID': '0'} for name in names}
assert settings('nova-compute.service', [first], asked) == {'values': {'libvirt/a': '1', 'libvirt/b': '1'}}
assert 'none of the configuration files' in settings('nova-compute.service', [folder + '/absent'], asked)['why']
",
    ]);
}

#[test]
fn cells_are_found_and_no_password_gets_out() {
    let database = DATABASE.replace("\nserve()\n", "\n");
    succeeds(&[
        "import sys, types\nfake = types.ModuleType('pymysql')\nfake.err = types.SimpleNamespace(MySQLError=OSError)\n\
         sys.modules['pymysql'] = fake\n",
        SERVE,
        &database,
        "
import tempfile
path = os.path.join(tempfile.mkdtemp(), 'nova.conf')
with open(path, 'w') as file:
    file.write('[database]\\nconnection = mysql+pymysql://nova:s%40crt@db:3307/nova?charset=utf8\\n'
               '[api_database]\\nconnection = mysql+pymysql://nova:s%40crt@db/nova_api\\n')
nova = {'config_files': [path], 'schemas': []}
real_rows = rows
def rows(url, sql, values=()):
    assert 'cell_mappings' in sql and url.endswith('/nova_api')
    return [('cell0', CELL0, '{scheme}://{username}:{password}@{hostname}:{port}/nova_cell0?{query}'),
            ('one', 'u1', 'mysql+pymysql://x:y@other/nova_one')]
found = cells(nova)
assert found == {'cell0': 'mysql+pymysql://nova:s%40crt@db:3307/nova_cell0?charset=utf8',
                 'one': 'mysql+pymysql://x:y@other/nova_one'}, found
assert schema_urls('nova', 'main', 'database/connection', nova) == ['mysql+pymysql://x:y@other/nova_one']
asked = {}
def refuse(**options):
    asked.update(options)
    raise OSError('access denied')
pymysql.connect = refuse
try:
    connect(found['cell0'])
    raise SystemExit('a refused connection was taken for one')
except Refusal as refusal:
    assert 's@crt' not in str(refusal) and 's%40crt' not in str(refusal), refusal
assert (asked['password'], asked['port'], asked['database']) == ('s@crt', 3307, 'nova_cell0'), asked
with open(path, 'w') as file:
    file.write('= hidden\\n')
try:
    read_config([path])
    raise SystemExit('a broken file was read')
except Refusal as refusal:
    assert 'hidden' not in str(refusal), refusal
",
    ]);
}

/// Runs the loop around a schema command whose exit codes come from a counter in a file.
fn schema(script: &str, passes_max: u32) -> Output {
    schema_held(script, passes_max, None)
}

/// The same, with a file whose time says until when batches wait.
fn schema_held(script: &str, passes_max: u32, hold: Option<&std::path::Path>) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let counter = dir.path().join("counter");
    // Restarts run in the same loop, and know of no file.
    let hold = hold.map_or(String::new(), |path| format!(", 'hold': {:?}", path.display().to_string()));
    let request = format!(
        "REQUEST = {{'argv': ['/bin/sh', '-c', {script:?}, 'sh', {:?}], 'rerun': [1], 'passes_max': {passes_max}, \
         'stuck_code': 97{hold}}}\n",
        counter.display().to_string()
    );
    python(&[&request, SCHEMA])
}

#[test]
fn a_schema_command_runs_again_while_it_says_so() {
    let twice = r#"echo x >> $1; [ $(wc -l < $1) -ge 3 ] || exit 1"#;
    let output = schema(twice, 10);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("pass 3: exit 0"));
    assert_eq!(schema("exit 1", 4).status.code(), Some(97));
    assert_eq!(schema("exit 2", 4).status.code(), Some(2));
    assert_eq!(schema("kill -9 $$", 4).status.code(), Some(137));
}

#[test]
fn batches_wait_until_the_time_of_the_file_that_holds_them() {
    let dir = tempfile::tempdir().unwrap();
    let hold = dir.path().join("held/attempt");
    std::fs::create_dir_all(hold.parent().unwrap()).unwrap();
    let file = std::fs::File::create(&hold).unwrap();
    let until = std::time::SystemTime::now() + std::time::Duration::from_secs(2);
    file.set_modified(until).unwrap();
    let output = schema_held("exit 0", 4, Some(&hold));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(std::time::SystemTime::now() >= until);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.starts_with("the next batch waits") && said.ends_with("pass 1: exit 0\n"), "{said}");
    assert!(!hold.parent().unwrap().exists(), "nothing is left");
}

#[test]
fn a_switch_refuses_what_is_not_as_planned() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::fs::create_dir_all(path("new/lib/python3.11/site-packages")).unwrap();
    std::fs::create_dir_all(path("old")).unwrap();
    std::fs::create_dir_all(path("other")).unwrap();
    let switch = |link: &str, after: &str| {
        let request = format!(
            "REQUEST = {{'unit': 'volutus-none.service', 'link': {link:?}, 'before': {:?}, 'after': {after:?}, \
             'distribution': 'nova', 'again': False}}\n",
            path("old")
        );
        let output = python(&[&request, PROCESS, SWITCH]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(switch(&path("old"), &path("new")).contains("is not a symbolic link"));
    std::os::unix::fs::symlink(path("other"), path("link")).unwrap();
    assert!(switch(&path("link"), &path("old")).contains("holds no release"));
    let answer = switch(&path("link"), &path("new"));
    assert!(answer.contains("refused") && answer.contains("expected"), "{answer}");
    // Nothing was changed.
    assert_eq!(std::fs::read_link(path("link")).unwrap().display().to_string(), path("other"));
}

const ANCHOR: &str = include_str!("../src/host/anchor.py");

/// A stand-in for nova's packages: what the program asks of them, with the guard of
/// nova.objects.Service. Databases are lists; `main` is what the configuration names, and is one of
/// the cells as well, as it usually is.
const NOVA: &str = r#"
import json, sys, types, uuid

class ServiceTooOld(Exception):
    pass

class HostMappingNotFound(Exception):
    pass

CODE = [70]
DATABASES = {'cell0': [], 'cell1': []}
MAPPINGS = {}
ASKED = []

class Service:
    def __init__(self, context, **fields):
        self.context, self.version, self.uuid = context, CODE[0], str(uuid.uuid4())
        self.forced_down = False
        for name, value in fields.items():
            setattr(self, name, value)

    @classmethod
    def get_minimum_version(cls, context, binary):
        versions = [r.version for r in DATABASES[context] if r.binary == binary and not r.forced_down]
        return min(versions) if versions else 0

    def create(self):
        if self.get_minimum_version(self.context, self.binary) > self.version:
            raise ServiceTooOld()
        DATABASES[self.context].append(self)

    def destroy(self):
        DATABASES[self.context].remove(self)

class ServiceList:
    @staticmethod
    def get_by_binary(context, binary, include_disabled=False):
        assert include_disabled
        return [r for r in DATABASES[context] if r.binary == binary]

class Mapping:
    def __init__(self, name):
        self.name = name

class CellMappingList:
    @staticmethod
    def get_all(context):
        return [Mapping('cell0'), Mapping('cell1')]

class HostMapping:
    def __init__(self, host):
        self.host = host

    @classmethod
    def get_by_host(cls, context, host):
        if host not in MAPPINGS:
            raise HostMappingNotFound()
        return cls(host)

    def destroy(self):
        del MAPPINGS[self.host]

class Target:
    def __init__(self, name):
        self.name = name

    def __enter__(self):
        return self.name

    def __exit__(self, *_):
        return False

def module(name, **members):
    made = types.ModuleType(name)
    made.__dict__.update(members)
    sys.modules[name] = made
    return made

module('nova', __path__=[])
module('nova.objects', register_all=lambda: None, Service=Service, ServiceList=ServiceList,
       CellMappingList=CellMappingList, HostMapping=HostMapping)
module('nova.config', parse_args=lambda argv: ASKED.append(argv))
module('nova.context', get_admin_context=lambda: 'cell1',
       target_cell=lambda context, mapping: Target(mapping.name))

def record(cell, host, binary, version):
    made = Service(cell, host=host, binary=binary)
    made.version = version
    DATABASES[cell].append(made)

def kept():
    return sorted((cell, r.binary, r.version, r.topic, r.disabled) for cell, records in
                  DATABASES.items() for r in records if r.host == 'volutus-anchor')

REPORTS = []

class Ended(BaseException):
    pass

def run(do, version=70, code=70):
    CODE[0] = code
    scope = {'REQUEST': dict(do=do, object='nova.objects.Service', config_files=['/a', '/b'],
                             binaries=['nova-conductor', 'nova-osapi_compute', 'nova-compute'],
                             host='volutus-anchor', version=version, reason='volutus: ...'),
             'json': json, '__name__': '__main__'}
    import os, io, contextlib
    output = io.StringIO()
    def leave(exit_code):
        raise Ended(exit_code)
    true, os._exit = os._exit, leave
    try:
        with contextlib.redirect_stdout(output):
            exec(compile(PROGRAM, 'anchor', 'exec'), scope)
    except Ended as ended:
        report = json.loads(output.getvalue().strip().splitlines()[-1])
        assert (ended.args[0] == 0) == (report['result'] in ('done', 'unchanged')), report
        return report
    finally:
        os._exit = true
    raise AssertionError('it did not end')
"#;

fn anchor_program(test: &str) -> String {
    // JSON text of a string is a Python string as well.
    format!("PROGRAM = {}\n{NOVA}\n{test}", serde_json::Value::String(ANCHOR.to_owned()))
}

#[test]
fn an_anchor_is_kept_beside_what_is_there_and_found_again() {
    succeeds(&[&anchor_program(
        "
for host in ('ctl1', 'ctl2'):
    record('cell1', host, 'nova-conductor', 70)
    record('cell0', host, 'nova-osapi_compute', 70)
report = run('keep')
assert report['result'] == 'done' and report['count'] == 2, report
assert kept() == [('cell0', 'nova-osapi_compute', 70, 'volutus-nova-osapi_compute', True),
                  ('cell1', 'nova-conductor', 70, 'volutus-nova-conductor', True)], kept()
assert ASKED[0] == ['nova', '--config-file', '/a', '--config-file', '/b'], ASKED
assert run('keep')['result'] == 'unchanged'
assert len(kept()) == 2
# Everything else becomes new; the lowest version stays old.
for records in DATABASES.values():
    for one in records:
        if one.host != 'volutus-anchor':
            one.version = 72
assert run('keep')['result'] == 'unchanged'
assert Service.get_minimum_version('cell1', 'nova-conductor') == 70
MAPPINGS['volutus-anchor'] = 1
report = run('release', code=72)
assert report['result'] == 'done' and report['count'] == 2, report
assert kept() == [] and MAPPINGS == {}
assert run('release', code=72)['result'] == 'unchanged'
",
    )]);
}

#[test]
fn an_anchor_that_cannot_be_kept_whole_is_not_kept_at_all() {
    succeeds(&[&anchor_program(
        "
report = run('keep')
assert report['result'] == 'refused' and 'no record' in report['why'], report
record('cell1', 'ctl1', 'nova-conductor', 70)
record('cell1', 'cmp1', 'nova-compute', 72)
report = run('keep')
assert report['result'] == 'refused' and 'not accepted' in report['why'], report
assert kept() == []
DATABASES['cell1'].pop()
report = run('keep', code=72)
assert report['result'] == 'refused' and 'writes records of version 72' in report['why'], report
assert run('keep')['result'] == 'done'
report = run('keep', version=72, code=72)
assert report['result'] == 'refused' and 'another run' in report['why'], report
assert len(kept()) == 1
",
    )]);
}

#[test]
fn what_is_installed_is_hashed_as_it_is() {
    succeeds(&[
        SERVE,
        PROCESS,
        HOST,
        "
import tempfile
release = tempfile.mkdtemp()
packages = os.path.join(release, 'lib', 'python3.11', 'site-packages')
os.makedirs(os.path.join(packages, 'nova'))
info = os.path.join(packages, 'nova-33.0.2.dist-info')
os.makedirs(info)
os.makedirs(os.path.join(packages, 'old_egg-1.0-py3.11.egg-info'))
def write(name, text):
    with open(os.path.join(packages, name), 'w') as file:
        file.write(text)
write('extra.py', 'y = 2\\n')
write('nova/api.py', 'x = 1\\n')
write('nova/__init__.py', '')
write('nova-33.0.2.dist-info/RECORD', '\\n'.join([
    '../../../bin/nova-api,sha256=x,1', '\"nova/api.py\",sha256=a lie,2', 'nova/__init__.py,,', 'extra.py,,',
    'nova/__pycache__/api.cpython-311.pyc,,', 'nova-33.0.2.dist-info/RECORD,,']))
# The digest of the same files in a wheel: crates/releases/src/contents.rs.
known = 'ec297c86b8725948301af8d2eb2d0d163526cb1d73bbed1ea2fe795899c3a742'
seen = contents(release, ['nova', 'old-egg', 'glance'])
assert seen == {'nova': ('33.0.2', known), 'old-egg': ('1.0', None)}, seen
write('nova/api.py', 'x = 2\\n')
changed = contents(release, ['nova'])['nova'][1]
assert changed not in (known, None)
os.unlink(os.path.join(packages, 'nova', 'api.py'))
assert contents(release, ['nova'])['nova'][1] not in (known, changed, None)
assert contents('/nowhere', ['nova']) == {}
import shutil
shutil.rmtree(release)
",
    ]);
}
