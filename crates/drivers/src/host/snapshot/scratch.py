# A throw-away server that shows whether a copy can be restored: its own data, its own socket, no
# network, an ordinary user, little memory. It dies with this program, whatever that dies of.
import ctypes
import pwd

SCRATCH = '.scratch-'
# Made by MariaDB's server package.
USER = 'mysql'
PR_SET_PDEATHSIG = 1
# A server without data starts within a second; recovery has nothing to do.
START_S = 120
# What a server without data writes: logs, system tables, temporary files.
SCRATCH_BYTES = 256 << 20
# The buffers below, connections and code, with room to spare; the cloud's own server is on this host.
MEMORY_BYTES = 3 << 30


def confined():
    """Before a child of ours becomes the server."""
    # Where memory ends, this one goes and not the cloud's server.
    with open('/proc/self/oom_score_adj', 'w') as file:
        file.write('1000')
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    if os.geteuid() == 0:
        account = pwd.getpwnam(USER)
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
    # One whose parent was killed would go on and keep the directory busy. A change of user would
    # take this back, so it comes last and the server does not change its user itself.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Scratch:
    def __init__(self, root, variables):
        self.child = self.descriptor = None
        try:
            pwd.getpwnam(USER)
        except KeyError:
            raise Failed('there is no user %s on this host, as which a scratch server runs' % USER)
        self.directory = tempfile.mkdtemp(prefix=SCRATCH, dir=root)
        self.data = os.path.join(self.directory, 'data')
        # A server that starts deletes whatever is called #sql* in its directory for temporary files
        # (MariaDB, mysql_rm_tmp_tables in sql/sql_base.cc): in /tmp these are the cloud's own server's.
        self.temporary = os.path.join(self.directory, 'tmp')
        os.mkdir(self.temporary)
        # Whoever cleans up sees by this lock that the program still lives.
        self.lock = open(os.path.join(self.directory, 'lock'), 'w')
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        self.options = [
            '--no-defaults', '--datadir=' + self.data, '--tmpdir=' + self.temporary, '--innodb-buffer-pool-size=128M',
            '--innodb-log-file-size=32M', '--key-buffer-size=1M', '--performance-schema=OFF',
            '--max-connections=5',
            # What a power loss would cost is thrown away anyway.
            '--innodb-flush-log-at-trx-commit=0', '--innodb-doublewrite=OFF', '--skip-log-bin',
            # Nothing of the copy is to run, and old row formats are no reason to refuse it.
            '--event-scheduler=OFF', '--innodb-strict-mode=OFF', '--max-allowed-packet=1G',
        ] + ['--%s=%s' % (name.replace('_', '-'), value) for name, value in sorted(variables.items())]
        if os.geteuid() == 0:
            for path in (self.directory, self.temporary):
                shutil.chown(path, USER, USER)

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.__exit__()
            raise

    def start(self):
        install = [tool('mariadb-install-db', 'mysql_install_db')] + self.options + [
            '--auth-root-authentication-method=normal', '--skip-test-db', '--skip-name-resolve']
        log = os.path.join(self.directory, 'log')
        with open(log, 'wb') as output:
            code = subprocess.call(install, stdin=subprocess.DEVNULL, stdout=output,
                                   stderr=subprocess.STDOUT, preexec_fn=confined, cwd='/')
            if code == 0:
                self.child = subprocess.Popen(
                    [tool('mariadbd', 'mysqld')] + self.options + [
                        # Relative to the data, because paths of sockets have to be short.
                        '--skip-networking', '--socket=s', '--pid-file=pid'],
                    stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                    preexec_fn=confined, cwd='/')
        # By a descriptor the path is short, however deep the directory lies.
        self.descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        server = Server(['--no-defaults', '--user=root', '--socket=/proc/%d/fd/%d/data/s' % (
            os.getpid(), self.descriptor)])
        deadline = time.monotonic() + START_S
        while self.child:
            try:
                server.rows('SELECT 1')
                return server
            except Failed:
                if self.child.poll() is not None or time.monotonic() > deadline:
                    break
            time.sleep(0.1)
        with open(log, 'rb') as output:
            raise Failed('the scratch server did not start: %s' % output.read().decode(
                'utf-8', 'replace').strip()[-1000:])

    def __exit__(self, *_):
        if self.child is not None:
            # Nothing in it is to be kept, so it need not stop gracefully.
            self.child.kill()
            self.child.wait()
        if self.descriptor is not None:
            os.close(self.descriptor)
        shutil.rmtree(self.directory, ignore_errors=True)
        self.lock.close()


def sweep(root):
    """Removes what killed programs left."""
    for name in os.listdir(root) if os.path.isdir(root) else []:
        path = os.path.join(root, name)
        if name.startswith('.deleting-'):
            shutil.rmtree(path, ignore_errors=True)
        elif name.startswith(SCRATCH):
            try:
                with open(os.path.join(path, 'lock'), 'a') as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path, ignore_errors=True)
            except OSError:
                # A program that lives has it.
                pass


def try_restore(directory, copy, key_file):
    """Restores a copy into a server of its own, and dumps that: the text has to be the same."""
    path, root, service = check_copy(directory, copy, key_file), os.path.dirname(directory), copy['service']
    need_room(root, SCRATCH_BYTES + copy['whole_bytes'] * 3 // 2,
              'the copy is restored into a scratch server, which may take half as much again as the %d '
              'bytes that tables and indexes had' % copy['whole_bytes'])
    say('starting a scratch server for %s\'s databases' % service)
    with Scratch(root, copy['variables']) as server:
        pump(unpacking(path, key_file), server.client, lambda line: line,
             'restoring %s\'s copy in a scratch server' % service)
        digests = Digests()
        pump(server.dump(copy['databases']), None, digests, 'comparing what was restored of %s' % service)
    wrong = differing(copy['tables'], digests.tables())
    if wrong:
        raise Damaged('what was restored is not what was copied: %s' % ', '.join(wrong[:20]))


def verify(directory, service, key_file):
    """Verifies a service's copy, and writes down whether it can be restored. A lack of room, or of
    the right key, says nothing of the copy."""
    sweep(os.path.dirname(directory))
    copy = copy_of(directory, service)
    place = os.path.join(directory, copy['file'] + SUFFIX)
    try:
        try_restore(directory, copy, key_file)
    except Damaged:
        write_whole(place, dict(copy, verified_at=None))
        raise
    copy['verified_at'] = now()
    write_whole(place, copy)
    return brief(copy)
