# Takes one consistent copy of all databases of a service, packs and encrypts it, restores it in a
# scratch server, and only then removes older ones.


def take(directory, service, databases, cloud, run, attempt, key_file, keep):
    root = os.path.dirname(directory)
    # The scratch server's user has to get through to its own data, but sees nothing of the copies.
    os.umask(0o066)
    os.makedirs(root, exist_ok=True)
    os.umask(0o077)
    os.makedirs(directory, exist_ok=True)
    sweep(root)
    copy = copies(directory).get(service)
    # A killed attempt that is taken up again finds its own copy.
    if copy is None or copy['attempt'] != attempt:
        copy = write_copy(directory, service, databases, cloud, run, attempt, key_file)
    if not copy['verified_at']:
        verify(directory, service, key_file)
        copy = copy_of(directory, service)
    # What earlier attempts, failed or killed, left of the same service.
    for name in os.listdir(directory):
        if name.startswith(service + '-') and not name.startswith(copy['file']):
            os.unlink(os.path.join(directory, name))
    return dict(brief(copy), removed=prune(root, directory, cloud, keep) if keep else [])


def write_copy(directory, service, databases, cloud, run, attempt, key_file):
    server = Server()
    missing = sorted(set(databases) - set(server.tables(databases)))
    if missing:
        raise Failed('there is no database %s on this server' % ', '.join(missing))
    data, whole = server.size(databases)
    # Packed text is smaller than rows, but nothing promises it.
    need_room(directory, data + SCRATCH_BYTES + whole * 3 // 2,
              '%d for the copy, as much as rows have now, and the rest for the scratch server that it is '
              'verified in' % data)
    if key_file is not None:
        check_key(key_file)
    # What a verification needs is looked for before an hour is spent on the copy.
    tool('mariadbd', 'mysqld')
    tool('mariadb-install-db', 'mysql_install_db')
    pack, end = packing(key_file)
    path = os.path.join(directory, '%s-%s.sql%s' % (service, attempt, end))
    # Without these the same text means other tables.
    names = ('lower_case_table_names', 'innodb_page_size')
    values, = server.rows('SELECT VERSION(), %s' % ', '.join('@@' + name for name in names))
    taken_at, digests = now(), Digests()
    with open(path, 'wb') as file:
        pump(server.dump(databases), pack, digests, 'copying %s\'s databases' % service, file)
    sync(path)
    copy = {
        'format': FORMAT, 'cloud': cloud, 'run': run, 'attempt': attempt, 'service': service,
        'databases': databases, 'file': os.path.basename(path), 'bytes': os.path.getsize(path),
        'sha256': digest_of(path), 'encrypted': key_file is not None, 'taken_at': taken_at,
        'verified_at': None, 'tables': digests.tables(), 'whole_bytes': whole, 'server': values[0],
        'variables': dict(zip(names, values[1:])),
    }
    write_whole(path + SUFFIX, copy)
    return copy


def prune(root, current, cloud, keep):
    """Removes snapshots of this cloud beyond the newest `keep` whole ones. The present one stays, and
    so does the newest verified copy of every service: a run that goes on from a broken one may have
    had no reason to copy a service again."""
    found = []
    for name in os.listdir(root):
        there = list(copies(os.path.join(root, name)).values()) if name[0] != '.' else []
        if there and all(copy['cloud'] == cloud for copy in there):
            found.append((max(copy['taken_at'] for copy in there), name, there))
    whole, covered, removed = 0, set(), []
    for _, name, there in sorted(found, key=lambda each: each[:2], reverse=True):
        directory = os.path.join(root, name)
        verified = {copy['service'] for copy in there if copy['verified_at']}
        if whole < keep or directory == current or not verified <= covered:
            whole += len(verified) == len(there)
            covered |= verified
            continue
        # Half a deletion must not look like a snapshot.
        gone = os.path.join(root, '.deleting-' + name)
        os.rename(directory, gone)
        shutil.rmtree(gone, ignore_errors=True)
        removed.append(name)
    return removed
