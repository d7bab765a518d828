# Moves OVN's gateways off a host, and gives them back. Joined behind process.py; runs where OVN's databases
# are asked.
OVN_MARK = 'volutus-priority'
# Whose place it is: a host that is down may be no chassis at the moment.
OVN_HOST = 'volutus-host'
# Below any that neutron gives: it counts from 1 (neutron, ovn/l3/l3_ovn_scheduler.py).
OVN_LOWERED = 0


def ovn_tables(command, wanted):
    """Rows of several tables as dictionaries, as of one moment and by one process, since starting one takes
    longer than asking: for each the table, the columns and a condition, or None. None instead of rows where
    there is no such table."""
    asked = []
    for table, columns, condition in wanted:
        asked += ['--', '--columns=' + ','.join(columns)]
        asked += ['find', table, condition] if condition else ['list', table]
    code, output = run(command + ['--timeout=20', '--format=json'] + asked)
    if code != 0 and 'unknown table' in output.lower():
        return [None] * len(wanted)
    if code != 0:
        raise Refusal('`%s` ended with %d: %s' % (' '.join(command + asked), code, output.strip()[-300:]))
    # One a line; warnings are none.
    tables = [json.loads(line) for line in output.splitlines() if line.startswith('{')]
    return [[dict(zip(table['headings'], row)) for row in table['data']] for table in tables]


def ovn_rows(command, table, columns):
    return ovn_tables(command, [(table, columns, None)])[0]


def ovn_map(value):
    return dict(value[1]) if isinstance(value, list) and value[0] == 'map' else {}


def ovn_many(value):
    """The values of a set, which is written without brackets where it has one."""
    values = value[1] if isinstance(value, list) and value[0] == 'set' else [value]
    return [one[1] if isinstance(one, list) else one for one in values]


def ovn_one(value):
    """The value of an optional column, or None."""
    return (ovn_many(value) or [None])[0]


def ovn_chassis(sbctl, host):
    """What OVN calls a host, and the record of it; (None, None) where it knows none."""
    return ovn_chassis_of(ovn_rows(sbctl, 'Chassis', ['_uuid', 'name', 'hostname']), host)


def ovn_chassis_of(rows, host):
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


def ovn_set(nbctl, changes, options=()):
    if changes:
        words = [word for change in changes for word in ['--'] + change]
        code, output = run(nbctl + ['--timeout=20'] + list(options) + words)
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
    """Gives the host its places back: those that carry its mark, and no others; how many. By then the
    southbound database has them."""
    changes, places = [], 0
    for table, uuid, _, priority, ids in ovn_places(nbctl):
        if ids.get(OVN_HOST) == host and OVN_MARK in ids:
            places += 1
            # Whoever gave it another place meanwhile has decided that.
            if priority == OVN_LOWERED:
                changes.append(['set', table, uuid, 'priority=' + ids[OVN_MARK]])
            changes.append(['remove', table, uuid, 'external_ids', OVN_MARK, OVN_HOST])
    ovn_set(nbctl, changes, ['--wait=sb'])
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
def ovn_gateways(sbctl, host):
    """The router ports whose gateway the host is or may be: whether that is `here` and, by their places, is
    `due` here; OVN's names of the hosts that have it (`at`) and that come `next` to this one, None where there
    is none (ovn-sb(5), Port_Binding of type chassisredirect, and HA_Chassis_Group)."""
    chassis, ports, groups, places = ovn_tables(sbctl, [
        ('Chassis', ['_uuid', 'name', 'hostname'], None),
        ('Port_Binding', ['logical_port', 'chassis', 'ha_chassis_group'], 'type=chassisredirect'),
        ('HA_Chassis_Group', ['_uuid', 'ha_chassis'], None),
        ('HA_Chassis', ['_uuid', 'chassis', 'priority'], None)])
    _, record = ovn_chassis_of(chassis, host)
    names = {row['_uuid'][1]: row['hostname'] or row['name'] for row in chassis}
    places = {row['_uuid'][1]: (row['priority'], ovn_one(row['chassis'])) for row in places}
    # A place of a host that is no chassis at the moment has none.
    orders = {row['_uuid'][1]: [there for _, there in sorted(
        (places[place] for place in ovn_many(row['ha_chassis']) if places[place][1]), reverse=True)]
        for row in groups}
    found = {}
    for port in ports:
        at = ovn_one(port['chassis'])
        order = orders.get(ovn_one(port['ha_chassis_group']), [])
        if record and (at == record or record in order):
            others = [names.get(there) for there in order if there != record]
            found[port['logical_port']] = {'here': at == record, 'due': order[:1] == [record],
                                           'at': names.get(at), 'next': (others or [None])[0]}
    return found


@operation
def ovn_router_ports(sbctl, ports):
    """What router ports are outside: MAC, the addresses that are reached by it, and the localnet ports with
    their VLAN (None: untagged) behind which that is. Ports of no physical network are left out.

    The addresses are those of the port and those that OVN itself announces with it: `nat_addresses` of the
    switch's side, of which those of instances that are reached on their own hosts name these instead (ovn-sb(5))."""
    redirects, sides, localnets = ovn_tables(sbctl, [
        ('Port_Binding', ['logical_port', 'mac', 'options'], 'type=chassisredirect'),
        ('Port_Binding', ['logical_port', 'datapath', 'options', 'nat_addresses'], 'type=patch'),
        ('Port_Binding', ['logical_port', 'datapath', 'tag'], 'type=localnet')])
    sides = {row['logical_port']: row for row in sides}
    outside = {}
    for row in localnets:
        outside.setdefault(row['datapath'][1], []).append([row['logical_port'], ovn_one(row['tag'])])
    found = []
    for row in redirects:
        port = row['logical_port']
        router = sides.get(ovn_map(row['options']).get('distributed-port'), {})
        switch = sides.get(ovn_map(router.get('options')).get('peer'))
        words = (ovn_one(row['mac']) or '').split()
        if port not in ports or not switch or not words or switch['datapath'][1] not in outside:
            continue
        addresses = [network.split('/')[0] for network in words[1:]]
        for text in ovn_many(switch['nat_addresses']):
            nat = text.split()
            if nat[0].lower() == words[0].lower() and nat[-1] == 'is_chassis_resident("%s")' % port:
                addresses += nat[1:-1]
        found.append({'port': port, 'mac': words[0], 'addresses': sorted(set(addresses)),
                      'localnets': outside[switch['datapath'][1]]})
    return found
