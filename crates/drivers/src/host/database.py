# Asks the services' own databases, with the credentials that the services use on this host.
# Connection strings never leave it; only counts, names and versions do. Joined behind serve.py,
# and run by the Python of a release, which has the database's client library.
import configparser
import glob
from urllib.parse import parse_qsl, unquote, urlsplit

import pymysql

CELL0 = '00000000-0000-0000-0000-000000000000'
TIMEOUT_S = 5
CONNECTIONS = {}
CELLS = {}


def read_config(files):
    parser = configparser.RawConfigParser(strict=False, default_section='\0', allow_no_value=True,
                                          interpolation=None)
    parser.optionxform = str
    for path in files:
        for one in [path] + sorted(glob.glob(glob.escape(path) + '.d/*.conf')):
            try:
                with open(one, errors='replace') as file:
                    parser.read_string('[DEFAULT]\n' + file.read())
            except FileNotFoundError:
                raise Refusal('%s does not exist on this host' % one)
            except configparser.Error as error:
                # The message of this error may quote a line, and with it a password.
                raise Refusal('%s cannot be read as a configuration file (%s)' % (
                    one, type(error).__name__))
    return parser


def address(files, option):
    section, _, name = option.partition('/')
    parser = read_config(files)
    if not parser.has_option(section, name):
        raise Refusal('%s has no option [%s] %s' % (', '.join(files), section, name))
    return parser.get(section, name)


def connect(url):
    if url in CONNECTIONS:
        CONNECTIONS[url].ping(reconnect=True)
        return CONNECTIONS[url]
    parts = urlsplit(url)
    if not parts.scheme.startswith(('mysql', 'mariadb')):
        raise Refusal('database connections of the kind %s are not known' % parts.scheme)
    options = dict(parse_qsl(parts.query))
    more = {}
    if 'unix_socket' in options:
        more['unix_socket'] = options['unix_socket']
    if 'ssl_ca' in options:
        more['ssl'] = {'ca': options['ssl_ca'], 'cert': options.get('ssl_cert'),
                       'key': options.get('ssl_key')}
    try:
        connection = pymysql.connect(
            host=parts.hostname or 'localhost', port=parts.port or 3306,
            user=unquote(parts.username or ''), password=unquote(parts.password or ''),
            database=parts.path.lstrip('/'), charset='utf8mb4', autocommit=True,
            connect_timeout=TIMEOUT_S, read_timeout=30, write_timeout=TIMEOUT_S, **more)
    except pymysql.err.MySQLError as error:
        raise Refusal('database %s at %s: %s' % (parts.path.lstrip('/'), parts.hostname, error))
    CONNECTIONS[url] = connection
    return connection


def rows(url, sql, values=()):
    with connect(url).cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall()


def cells(nova):
    """Connections of nova's cells by name, cell0 included."""
    files = tuple(nova['config_files'])
    if files in CELLS:
        return CELLS[files]
    main = address(files, 'database/connection')
    base = urlsplit(main)
    found = {}
    for name, uuid, url in rows(address(files, 'api_database/connection'),
                                'SELECT name, uuid, database_connection FROM cell_mappings'):
        # Templates such as {scheme}://{username}:{password}@{hostname}:{port}/nova_cell0?{query}
        # take their parts from [database] connection. Source: nova/objects/cell_mapping.py.
        for part, value in (('scheme', base.scheme), ('username', base.username),
                            ('password', base.password), ('hostname', base.hostname),
                            ('port', base.port), ('path', base.path.lstrip('/')),
                            ('query', base.query), ('fragment', base.fragment)):
            url = url.replace('{%s}' % part, '' if value is None else str(value))
        found['cell0' if uuid == CELL0 else name or uuid] = url
    CELLS[files] = found
    return found


def schema_urls(service, name, option, description):
    """The connections behind a schema of the catalog. Nova's cell databases are those that its
    cell mappings name; more than one cell has more than one of them."""
    if service == 'nova' and name != 'api':
        mapped = cells(description)
        if name == 'cell0':
            if 'cell0' not in mapped:
                raise Refusal('nova has no mapping of cell0')
            return [mapped['cell0']]
        return [url for cell, url in sorted(mapped.items()) if cell != 'cell0']
    return [address(description['config_files'], option)]


@operation
def heads(service, description):
    found = {}
    for schema in description['schemas']:
        seen = set()
        for url in schema_urls(service, schema['name'], schema['connection'], description):
            seen.update(row[0] for row in rows(
                url, 'SELECT version_num FROM `%s`' % schema['version_table'].replace('`', '')))
        found[schema['name']] = sorted(seen)
    return found


@operation
def pending(service, description):
    options = {schema['name']: schema['connection'] for schema in description['schemas']}
    found = {}
    for query in description['pending']:
        urls = schema_urls(service, query['schema'], options[query['schema']], description)
        found[query['name']] = sum(int(rows(url, query['sql'])[0][0]) for url in urls)
    return found


def main_url(description):
    return address(description['config_files'], 'database/connection')


def record(binary, host, version, count, age, disabled, reason, forced):
    return {'binary': binary, 'host': host, 'version': str(version or ''),
            'report_count': int(count or 0), 'age_s': None if age is None else max(0, int(age)),
            'disabled': (reason or '') if disabled else None, 'forced_down': bool(forced)}


@operation
def records(service, description, binary=None, host=None):
    """Service records, of one binary and host where these are given (cinder-volume's records are
    called host@backend). Ages are by the database's clock; all services write UTC."""
    where, values = '', []
    if binary is not None:
        where += ' AND `binary` = %s'
        values.append(binary)
    if host is not None:
        where += " AND SUBSTRING_INDEX(host, '@', 1) = %s"
        values.append(host)
    found = []
    if service == 'nova':
        for cell, url in cells(description).items():
            # cell0 holds instances that never got a host, and no services.
            if cell != 'cell0':
                found += rows(url, 'SELECT `binary`, host, version, report_count, TIMESTAMPDIFF('
                              'SECOND, last_seen_up, UTC_TIMESTAMP()), disabled, disabled_reason, '
                              'forced_down FROM services WHERE deleted = 0' + where, values)
    elif service == 'cinder':
        found = rows(main_url(description), 'SELECT `binary`, host, rpc_current_version, '
                     'report_count, TIMESTAMPDIFF(SECOND, updated_at, UTC_TIMESTAMP()), disabled, '
                     'disabled_reason, 0 FROM services WHERE deleted = 0' + where, values)
    elif service == 'neutron':
        # Agents keep no count; the time of the last heartbeat advances as a count does.
        found = rows(main_url(description), "SELECT `binary`, host, '', TIMESTAMPDIFF(SECOND, "
                     "'1970-01-01', heartbeat_timestamp), TIMESTAMPDIFF(SECOND, "
                     'heartbeat_timestamp, UTC_TIMESTAMP()), NOT admin_state_up, '
                     "'admin_state_up is false', 0 FROM agents WHERE 1 = 1" + where, values)
    else:
        raise Refusal('%s keeps no service records that are known' % service)
    return [record(*row) for row in sorted(found, key=lambda row: (row[0], row[1]))]


@operation
def instances(description):
    found = {}
    for cell, url in cells(description).items():
        for host, count in rows(url, 'SELECT host, COUNT(*) FROM instances WHERE deleted = 0 AND '
                                'host IS NOT NULL GROUP BY host'):
            found[host] = found.get(host, 0) + int(count)
    return found


@operation
def vif_types(description):
    return {name: int(count) for name, count in rows(
        main_url(description), 'SELECT vif_type, COUNT(*) FROM ml2_port_bindings GROUP BY vif_type')}


@operation
def under_way(description, host):
    """What compute work is under way: instances of the host that change, and builds of which it
    is not decided yet where they go."""
    busy, unplaced = [], []
    for url in cells(description).values():
        busy += rows(url, 'SELECT uuid, vm_state, COALESCE(task_state, \'\') FROM instances WHERE '
                     "deleted = 0 AND host = %s AND (task_state IS NOT NULL OR vm_state = 'building') "
                     'LIMIT 200', (host,))
        unplaced += rows(url, "SELECT uuid FROM instances WHERE deleted = 0 AND host IS NULL AND "
                         "vm_state = 'building' LIMIT 10000")
    unplaced += rows(address(description['config_files'], 'api_database/connection'),
                     'SELECT instance_uuid FROM build_requests LIMIT 10000')
    return {'busy': [' '.join(row).strip() for row in busy],
            'unplaced': sorted({row[0] for row in unplaced})}


serve()
