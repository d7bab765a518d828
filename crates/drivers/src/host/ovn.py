# Moves OVN's gateways off a host, and gives them back. Joined behind process.py; runs where OVN's databases
# are asked.
OVN_MARK = 'volutus-priority'
# Below any that neutron gives: it counts from 1 (neutron, ovn/l3/l3_ovn_scheduler.py).
OVN_LOWERED = 0


def ovn_rows(command, table, columns, condition=None):
    """Rows of a table as dictionaries; None where this OVN has no such table."""
    find = ['find', table, condition] if condition else ['list', table]
    code, output = run(command + ['--timeout=20', '--format=json', '--columns=' + ','.join(columns)] + find)
    if code != 0 and 'unknown table' in output.lower() or 'does not have a table' in output.lower():
        return None
    if code != 0:
        raise Refusal('`%s` ended with %d: %s' % (' '.join(command + find), code, output.strip()[-300:]))
    table = json.loads(output[output.index('{'):])
    return [dict(zip(table['headings'], row)) for row in table['data']]


def ovn_map(value):
    return dict(value[1]) if isinstance(value, list) and value[0] == 'map' else {}


def ovn_chassis(sbctl, host):
    """What OVN calls a host, and the record of it; (None, None) where it knows none."""
    for row in ovn_rows(sbctl, 'Chassis', ['_uuid', 'name', 'hostname']):
        if row['name'] == host or row['hostname'].split('.')[0] == host.split('.')[0]:
            return row['name'], row['_uuid'][1]
    return None, None


def ovn_candidates(nbctl, chassis):
    """The places at which a host may be a gateway: routers' own, and those of groups, which newer
    neutron uses (both have the same columns)."""
    for table in ('Gateway_Chassis', 'HA_Chassis'):
        rows = ovn_rows(nbctl, table, ['_uuid', 'chassis_name', 'priority', 'external_ids'])
        for row in rows or []:
            if row['chassis_name'] == chassis:
                yield table, row['_uuid'][1], row['priority'], ovn_map(row['external_ids'])


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
    for table, uuid, priority, ids in ovn_candidates(nbctl, chassis) if chassis else []:
        if OVN_MARK not in ids:
            changes.append(['set', table, uuid, 'priority=%d' % OVN_LOWERED,
                            'external_ids:%s=%d' % (OVN_MARK, priority)])
    ovn_set(nbctl, changes)
    return {'chassis': chassis, 'changed': len(changes)}


@operation
def ovn_restore(nbctl, sbctl, host):
    """Gives the host its places back: those that carry the mark, and no others."""
    chassis, _ = ovn_chassis(sbctl, host)
    changes = []
    # A host that is down may be no chassis at the moment; its name in the places is the same.
    for table, uuid, priority, ids in ovn_candidates(nbctl, chassis or host):
        if OVN_MARK in ids:
            # Whoever gave it another place meanwhile has decided that.
            if priority == OVN_LOWERED:
                changes.append(['set', table, uuid, 'priority=' + ids[OVN_MARK]])
            changes.append(['remove', table, uuid, 'external_ids', OVN_MARK])
    ovn_set(nbctl, changes)
    return {'chassis': chassis, 'changed': len([c for c in changes if c[0] == 'remove'])}


@operation
def ovn_active(sbctl, host):
    """The router ports whose gateway the host is at this moment."""
    _, record = ovn_chassis(sbctl, host)
    ports = ovn_rows(sbctl, 'Port_Binding', ['logical_port', 'chassis'], 'type=chassisredirect')
    return [port['logical_port'] for port in ports if record and port['chassis'] == ['uuid', record]]
