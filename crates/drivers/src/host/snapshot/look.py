# What can be asked about snapshots without changing anything. Joined behind serve.py and common.py.

# What users notice the loss of, by tables that record when their rows were made; a row marked as
# deleted is no loss. Source: the models of nova, cinder, glance, neutron and keystone.
CREATED = [
    ('instances', 'instances', 'created_at >= %s AND deleted_at IS NULL'),
    ('volumes', 'volumes', 'created_at >= %s AND deleted_at IS NULL'),
    ('volume snapshots', 'snapshots', 'created_at >= %s AND deleted_at IS NULL'),
    ('images', 'images', 'created_at >= %s AND deleted_at IS NULL'),
] + [(kind.replace('_', ' '), 'standardattributes', "created_at >= %%s AND resource_type = '%s'" % of)
     for kind, of in (('networks', 'networks'), ('subnets', 'subnets'), ('ports', 'ports'),
                      ('routers', 'routers'), ('floating_IPs', 'floatingips'),
                      ('security_groups', 'securitygroups'))] + [
    ('users', 'user', 'created_at >= %s'),
]


def created_since(server, databases, since):
    """{kind: count} of what was made since, as far as tables say when."""
    columns, found = {}, {}
    for database, table, column in server.rows(
            'SELECT table_schema, table_name, column_name FROM information_schema.columns '
            'WHERE table_schema IN (%s)' % literals(databases)):
        columns.setdefault((database, table), set()).add(column)
    since = "'%s'" % since.replace('T', ' ').rstrip('Z')
    for kind, table, condition in CREATED:
        wanted = set(re.findall(r'[a-z]+_(?:at|type)', condition))
        for (database, name), has in sorted(columns.items()):
            if name == table and wanted <= has:
                (count,), = server.rows('SELECT COUNT(*) FROM %s.%s WHERE %s' % (
                    quoted(database), quoted(table), condition % since))
                found[kind] = found.get(kind, 0) + int(count)
    return found


@operation
def snapshots(root):
    """Every snapshot on this host, and what restores stand where."""
    found, restores = [], []
    for name in sorted(os.listdir(root)) if os.path.isdir(root) else []:
        directory = os.path.join(root, name)
        if name.startswith('.restore-') and name.endswith('.json'):
            try:
                restores.append(read_json(directory))
            except Failed as failed:
                raise Refusal(str(failed))
        if name.startswith('.') or not os.path.isdir(directory):
            continue
        there = [dict(brief(copy), present=os.path.exists(os.path.join(directory, copy['file'])))
                 for _, copy in sorted(copies(directory).items())]
        found.append({'id': name, 'copies': there})
    return {'snapshots': found, 'restores': [each for each in restores if each]}


@operation
def snapshot_loss(databases, since):
    """What was made in these databases since."""
    try:
        return created_since(Server(), databases, since)
    except Failed as failed:
        raise Refusal(str(failed))


serve()
