# Puts a service's databases back to what a copy holds, in two parts. `prepare` restores it beside what
# is in use and compares; daemons may serve meanwhile. `swap` exchanges the tables by renaming them,
# which takes moments and has to find nobody connected. What was in use is kept under another name, so
# that `undo` can exchange it back. The state file says which part is under way: whoever comes after a
# kill goes on from there.

# Connections of daemons that were stopped end within this, or are somebody else's.
GONE_S = 20
NAME_MAX = 64


def state_path(root, service):
    return os.path.join(root, '.restore-%s.json' % service)


def drop(server, databases):
    server.rows(''.join('DROP DATABASE IF EXISTS %s;' % quoted(name) for name in databases) or 'SELECT 1')


def prepare(directory, service, key_file):
    root, snapshot = os.path.split(directory)
    sweep(root)
    server, copy, place = Server(), copy_of(directory, service), state_path(root, service)
    state = read_json(place) or {'phase': 'kept'}
    if state['phase'] in ('swap', 'undo', 'done') and state['snapshot'] != snapshot:
        raise Failed('%s\'s restore from snapshot %s is not at its end; do that one again, or take it back '
                     '(--undo)' % (service, state['snapshot']))
    if state['phase'] == 'undo':
        raise Failed('taking back %s\'s restore was cut off; do it again (--undo)' % service)
    if state['phase'] in ('swap', 'done') or (state['phase'] == 'loaded' and state['snapshot'] == snapshot):
        return state
    if state['phase'] in ('load', 'loaded'):
        drop(server, state['restored'].values())
    stamp = time.strftime('%Y%m%d%H%M%S', time.gmtime())
    state = {'phase': 'load', 'snapshot': snapshot, 'service': service, 'taken_at': copy['taken_at']}
    for kind in ('restored', 'before', 'undone'):
        state[kind] = {name: '%s_%s_%s' % (name, kind, stamp) for name in copy['databases']}
    names = [name for kind in ('restored', 'before', 'undone') for name in state[kind].values()]
    if max(map(len, names)) > NAME_MAX:
        raise Failed('a database\'s name would be longer than %d characters: %s' % (NAME_MAX, max(names, key=len)))
    path = check_copy(directory, copy, key_file)
    refuse_code(server, copy['databases'])
    (where,), = server.rows('SELECT @@datadir')
    need_room(where, copy['whole_bytes'] * 3 // 2, 'the copy is restored beside what is in use')
    write_whole(place, state)
    try:
        pump(unpacking(path, key_file), server.client, renaming(state['restored']),
             'restoring %s\'s copy beside what is in use' % service)
        digests = Digests({new: old for old, new in state['restored'].items()})
        pump(server.dump(state['restored'].values()), None, digests, 'comparing what was restored of %s' % service)
        wrong = differing(copy['tables'], digests.tables())
        if wrong:
            raise Failed('what was restored is not what was copied: %s' % ', '.join(wrong[:20]))
        refuse_code(server, state['restored'].values())
    except Failed:
        # What is in use was not touched. A killed program's databases are dropped by the next one.
        drop(server, state['restored'].values())
        os.unlink(place)
        raise
    write_whole(place, dict(state, phase='loaded'))
    return dict(state, phase='loaded')


def renaming(names):
    # A line end inside of a value is written as an escape, so lines that begin so are statements.
    statement = re.compile(rb'^(USE|CREATE DATABASE /\*!32312 IF NOT EXISTS\*/) `([^`]+)`')

    def each(line):
        if not line.startswith((b'USE `', b'CREATE DATABASE ')):
            return line
        found = statement.match(line)
        name = found and found.group(2).decode('utf-8')
        if name not in names:
            raise Failed('the copy holds a database that it is not said to hold: %r' % line[:100])
        return found.group(1) + b' ' + quoted(names[name]).encode('utf-8') + line[found.end():]
    return each


def refuse_code(server, databases):
    """RENAME TABLE does not take views, routines and events along, and refuses triggers."""
    for table, column in (('views', 'table_schema'), ('triggers', 'trigger_schema'),
                          ('routines', 'routine_schema'), ('events', 'event_schema')):
        (count,), = server.rows('SELECT COUNT(*) FROM information_schema.%s WHERE %s IN (%s)' % (
            table, column, literals(databases)))
        if count != '0':
            raise Failed('there are %s %s in %s, which cannot be moved between databases; restore by hand '
                         '(docs/operating/snapshots.md)' % (count, table, ', '.join(databases)))


def wait_until_unused(server, databases):
    deadline = time.monotonic() + GONE_S
    while True:
        there = ['%s@%s (%s)' % (user, host.rsplit(':', 1)[0], database) for user, host, database in server.rows(
            'SELECT DISTINCT user, host, db FROM information_schema.processlist WHERE db IN (%s) '
            'AND id <> CONNECTION_ID()' % literals(databases))]
        if not there:
            return
        if time.monotonic() > deadline:
            raise Failed('the databases are still in use, so nothing was exchanged. Stop who that is: %s'
                         % ', '.join(sorted(set(there))[:10]))
        say('waiting until %s lets go of the databases' % there[0])
        time.sleep(0.5)


def swap(root, service):
    return exchange(root, service, 'swap', 'before', 'restored', {'loaded': 'done', 'done': 'done'})


def undo(root, service):
    return exchange(root, service, 'undo', 'undone', 'before', {'done': 'kept', 'kept': 'kept'})


def exchange(root, service, phase, aside, source, ways):
    """Moves the tables in use to the databases `aside`, and those of `source` to their place."""
    server, place = Server(), state_path(root, service)
    state = read_json(place)
    before = state and state['phase']
    if before != phase and before not in ways or state.get('undone_at'):
        raise Failed('%s has no restore that could be exchanged now (it stands at: %s)' % (
            service, before and (state.get('undone_at') and 'taken back' or before)))
    if phase == 'swap' and before == 'done':
        return state
    databases = sorted(state['restored'])
    if before != phase:
        wait_until_unused(server, databases)
        refuse_code(server, databases)
        state = dict(state, phase=phase, was=before, old=server.tables(databases))
        write_whole(place, state)
    try:
        move(server, databases, state, state[aside], state[source])
    except Failed:
        if server.tables(databases) == state['old']:
            write_whole(place, dict(state, phase=state['was']))
        raise
    drop(server, state[source].values())
    state = dict(state, phase=ways[state['was']])
    state['undone_at' if phase == 'undo' else 'swapped_at'] = now()
    write_whole(place, state)
    return state


def move(server, databases, state, aside, source):
    """Whatever was moved already: a table in use that is not yet aside is an old one."""
    for name in databases:
        (charset, collation), = server.rows(
            'SELECT default_character_set_name, default_collation_name FROM information_schema.schemata '
            'WHERE schema_name = %s' % literals([name]))
        server.rows('CREATE DATABASE IF NOT EXISTS %s CHARACTER SET %s COLLATE %s' % (
            quoted(aside[name]), charset, collation))
    gone, waiting = server.tables(aside.values()), server.tables(source.values())
    moves = [(name, table, aside[name]) for name in databases
             for table in state['old'][name] if table not in gone[aside[name]]]
    moves += [(source[name], table, name) for name in databases for table in waiting.get(source[name], [])]
    if moves:
        say('exchanging %d tables' % len(moves))
        # One statement: the server does all of it or takes back what it did, killed or not.
        server.rows('SET lock_wait_timeout = 60; RENAME TABLE ' + ', '.join(
            '%s.%s TO %s.%s' % (quoted(one), quoted(table), quoted(other), quoted(table))
            for one, table, other in moves))
    left = server.tables(source.values())
    if any(left.values()) or any(server.tables(aside.values())[aside[name]] != state['old'][name] for name in databases):
        raise Failed('tables are not where they should be after the exchange: %s' % left)
    crossing = server.rows(
        'SELECT constraint_schema, table_name, unique_constraint_schema FROM '
        'information_schema.referential_constraints WHERE unique_constraint_schema <> constraint_schema '
        'AND constraint_schema IN (%s)' % literals(databases + list(aside.values())))
    if crossing:
        raise Failed('foreign keys lead out of their database: %s' % crossing[:10])


def end(root, service):
    """Daemons serve again: another restore may begin. What was kept stays, and can be put back."""
    state = read_json(state_path(root, service))
    if state and state['phase'] == 'done':
        write_whole(state_path(root, service), dict(state, phase='kept'))
    return state or {}


def cancel(root, service):
    """Takes a prepared restore away again; what is in use was never touched."""
    state = read_json(state_path(root, service))
    if state and state['phase'] in ('load', 'loaded'):
        drop(Server(), state['restored'].values())
        os.unlink(state_path(root, service))
    return state or {}
