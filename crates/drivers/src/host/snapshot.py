# Takes consistent copies of databases with MariaDB's own tool. Joined behind REQUEST; runs as a
# transient unit on the database host, as root over the local socket. The last line of its output
# is JSON.
import hashlib
import json
import os
import shutil
import subprocess
import sys


def fail(why):
    print(json.dumps({'why': why}), flush=True)
    sys.exit(1)


def tool(*names):
    for name in names:
        if shutil.which(name):
            return name
    fail('none of %s is installed' % ', '.join(names))


def size_of(client, names):
    wanted = ','.join("'%s'" % name for name in names)
    done = subprocess.run(
        [client, '-N', '-e', 'SELECT COALESCE(SUM(data_length), 0), COUNT(DISTINCT table_schema) '
         'FROM information_schema.tables WHERE table_schema IN (%s)' % wanted],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    text = done.stdout.decode('utf-8', 'replace').strip()
    if done.returncode:
        fail('%s: exit %d: %s' % (client, done.returncode, text[-1000:]))
    size, count = (int(float(part)) for part in text.split())
    if count != len(names):
        fail('%d of the %d databases %s exist here' % (count, len(names), ', '.join(names)))
    return size


def dump(program, name, path):
    digest, size, end = hashlib.sha256(), 0, b''
    with open(path + '.part', 'wb') as file:
        child = subprocess.Popen([program, '--single-transaction', '--quick', '--routines',
                                  '--triggers', '--events', '--hex-blob', '--databases', name],
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        for part in iter(lambda: child.stdout.read(1 << 20), b''):
            file.write(part)
            digest.update(part)
            size += len(part)
            end = (end + part)[-200:]
        code = child.wait()
        file.flush()
        os.fsync(file.fileno())
    # The tool writes this line last of all: without it the copy is not whole.
    if code or b'-- Dump completed' not in end:
        os.unlink(path + '.part')
        fail('%s of %s: exit %d%s' % (program, name, code, '' if code else ', and its end is missing'))
    os.rename(path + '.part', path)
    with open(path + '.sha256', 'w') as file:
        file.write('%s  %s\n' % (digest.hexdigest(), os.path.basename(path)))
    return {'path': path, 'bytes': size, 'sha256': digest.hexdigest()}


def main(databases, directory, label):
    os.umask(0o077)
    os.makedirs(directory, exist_ok=True)
    client, program = tool('mariadb', 'mysql'), tool('mariadb-dump', 'mysqldump')
    size, stat = size_of(client, databases), os.statvfs(directory)
    free = stat.f_bavail * stat.f_frsize
    # Text is larger than rows; twice their size has room for that.
    if free < 2 * size:
        fail('%s has %d bytes free; the databases hold %d, and a copy may need twice that' % (
            directory, free, size))
    files = [dump(program, name, os.path.join(directory, '%s-%s.sql' % (label, name)))
             for name in databases]
    print(json.dumps({'files': files}), flush=True)


main(**REQUEST)
