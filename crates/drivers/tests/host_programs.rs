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
    assert seen == {'version': '15.0.0', 'release': name}, seen
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
fn options_are_read_as_oslo_config_reads_them() {
    let host = HOST.replace("\nserve()\n", "\n");
    succeeds(&[
        SERVE,
        PROCESS,
        &host,
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
    let dir = tempfile::tempdir().unwrap();
    let counter = dir.path().join("counter");
    let request = format!(
        "REQUEST = {{'argv': ['/bin/sh', '-c', {script:?}, 'sh', {:?}], 'rerun': [1], 'passes_max': {passes_max}, \
         'stuck_code': 97}}\n",
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
