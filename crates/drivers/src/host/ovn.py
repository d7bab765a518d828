# Moves OVN's gateways off a host, and gives them back. Joined behind process.py; runs where OVN's databases
# are asked.
OVN_MARK = 'volutus-priority'
# Whose place it is: a host that is down may be no chassis at the moment.
OVN_HOST = 'volutus-host'
# Below any that neutron gives: it counts from 1 (neutron, ovn/l3/l3_ovn_scheduler.py).
OVN_LOWERED = 0


def ovn_rows(command, table, columns, condition=None):
    """Rows of a table as dictionaries; None where this OVN has no such table."""
    find = ['find', table, condition] if condition else ['list', table]
    code, output = run(command + ['--timeout=20', '--format=json', '--columns=' + ','.join(columns)] + find)
    if code != 0 and 'unknown table' in output.lower():
        return None
    if code != 0:
        raise Refusal('`%s` ended with %d: %s' % (' '.join(command + find), code, output.strip()[-300:]))
    table = json.loads(output[output.index('{'):])
    return [dict(zip(table['headings'], row)) for row in table['data']]


def ovn_map(value):
    return dict(value[1]) if isinstance(value, list) and value[0] == 'map' else {}


def ovn_chassis(sbctl, host):
    """What OVN calls a host, and the record of it; (None, None) where it knows none."""
    rows = ovn_rows(sbctl, 'Chassis', ['_uuid', 'name', 'hostname'])
    found = [row for row in rows if host in (row['name'], row['hostname'])]
    # One of the two names may have a domain, which then tells hosts of the same name apart.
    found = found or [row for row in rows if row['hostname'].split('.')[0] == host.split('.')[0]]
    if len(found) > 1:
        raise Refusal('OVN has %d chassis on %s: %s' % (
            len(found), host, ', '.join(row['hostname'] for row in found)))
    return (found[0]['name'], found[0]['_uuid'][1]) if found else (None, None)


def ovn_places(nbctl):
    """The places at which hosts may be gateways: routers' own, and those of groups, which newer neutron
    uses (both have the same columns)."""
    for table in ('Gateway_Chassis', 'HA_Chassis'):
        rows = ovn_rows(nbctl, table, ['_uuid', 'chassis_name', 'priority', 'external_ids'])
        for row in rows or []:
            yield table, row['_uuid'][1], row['chassis_name'], row['priority'], ovn_map(row['external_ids'])


def ovn_set(nbctl, changes):
    if changes:
        code, output = run(nbctl + ['--timeout=20'] + [word for change in changes for word in ['--'] + change])
        if code != 0:
            raise Refusal('ovn-nbctl ended with %d: %s' % (code, output.strip()[-300:]))


@operation
def ovn_lower(nbctl, sbctl, host):
    """Puts the host behind all other gateways, remembering its place; how many places it is."""
    chassis, _ = ovn_chassis(sbctl, host)
    changes = []
    for table, uuid, name, priority, ids in ovn_places(nbctl):
        if name == chassis and OVN_MARK not in ids:
            changes.append(['set', table, uuid, 'priority=%d' % OVN_LOWERED,
                            'external_ids:%s=%d' % (OVN_MARK, priority),
                            'external_ids:%s="%s"' % (OVN_HOST, host)])
    ovn_set(nbctl, changes)
    return {'chassis': chassis, 'changed': len(changes)}


@operation
def ovn_restore(nbctl, host):
    """Gives the host its places back: those that carry its mark, and no others; how many."""
    changes, places = [], 0
    for table, uuid, _, priority, ids in ovn_places(nbctl):
        if ids.get(OVN_HOST) == host and OVN_MARK in ids:
            places += 1
            # Whoever gave it another place meanwhile has decided that.
            if priority == OVN_LOWERED:
                changes.append(['set', table, uuid, 'priority=' + ids[OVN_MARK]])
            changes.append(['remove', table, uuid, 'external_ids', OVN_MARK, OVN_HOST])
    ovn_set(nbctl, changes)
    return places


@operation
def ovn_behind(nbctl, sbctl, host, goal):
    """How far a host's ovn-controller is: `seen` of the generation `goal`, which is a new one where none is
    given; `seen` is None where OVN knows no chassis on the host. A generation is written down once its flows
    are in the switch (ovn-architecture(7), "nb_cfg"; before OVN 20.12 in Chassis)."""
    chassis, _ = ovn_chassis(sbctl, host)
    if goal is None:
        code, output = run(nbctl + ['--timeout=20', '--wait=sb', 'sync'])
        if code != 0:
            raise Refusal('ovn-nbctl sync ended with %d: %s' % (code, output.strip()[-300:]))
        goal = ovn_rows(sbctl, 'SB_Global', ['nb_cfg'])[0]['nb_cfg']
    rows = ovn_rows(sbctl, 'Chassis_Private', ['name', 'nb_cfg'])
    rows = ovn_rows(sbctl, 'Chassis', ['name', 'nb_cfg']) if rows is None else rows
    seen = [row['nb_cfg'] for row in rows if row['name'] == chassis]
    return {'goal': goal, 'seen': seen[0] if seen else None}


@operation
def ovn_active(sbctl, host):
    """The router ports whose gateway the host is at this moment."""
    _, record = ovn_chassis(sbctl, host)
    ports = ovn_rows(sbctl, 'Port_Binding', ['logical_port', 'chassis'], 'type=chassisredirect')
    return [port['logical_port'] for port in ports if record and port['chassis'] == ['uuid', record]]
