//! The programs by which OVN's gateways are moved and announced, run by the Python of this host.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

const PROCESS: &str = include_str!("../src/host/process.py");
const SERVE: &str = include_str!("../src/host/serve.py");
const OVN: &str = include_str!("../src/host/ovn.py");
const ANNOUNCE: &str = include_str!("../src/host/announce.py");

/// Commands of OVN that know two hosts, of which the first is the gateway of a router.
const OVN_COMMANDS: &str = "
def place(number, chassis, priority):
    return {'_uuid': ['uuid', number], 'chassis_name': chassis, 'priority': priority,
            'external_ids': ['map', [['owner', 'neutron']]]}

def port(name, kind, chassis=['set', []], options=['map', []], datapath='x', mac=['set', []], nat=['set', []]):
    return {'logical_port': name, 'type': kind, 'chassis': chassis, 'options': options, 'mac': mac,
            'datapath': ['uuid', datapath], 'nat_addresses': nat, 'tag': ['set', []],
            'ha_chassis_group': ['uuid', 'h'] if name == 'cr-1' else ['set', []]}

TABLES = {
    'HA_Chassis_Group': [{'_uuid': ['uuid', 'h'],
                          'ha_chassis': ['set', [['uuid', 'h1'], ['uuid', 'h2'], ['uuid', 'h3']]]}],
    'SB_HA_Chassis': [{'_uuid': ['uuid', 'h1'], 'chassis': ['uuid', 'c1'], 'priority': 2},
                      {'_uuid': ['uuid', 'h2'], 'chassis': ['uuid', 'c2'], 'priority': 1},
                      {'_uuid': ['uuid', 'h3'], 'chassis': ['set', []], 'priority': 3}],
    'Gateway_Chassis': [place('g1', 'uu-1', 2), place('g2', 'uu-2', 1)],
    'Chassis': [{'_uuid': ['uuid', 'c1'], 'name': 'uu-1', 'hostname': 'cmp1.site'},
                {'_uuid': ['uuid', 'c2'], 'name': 'uu-2', 'hostname': 'cmp2.site'}],
    'Port_Binding': [
        port('cr-1', 'chassisredirect', ['uuid', 'c1'], ['map', [['distributed-port', 'lrp-1']]], 'ext',
             'fa:16:3e:00:00:01 198.18.9.5/24 2001:db8::5/64'),
        port('cr-2', 'chassisredirect', ['set', []], ['map', [['distributed-port', 'lrp-2']]], 'tunnels'),
        port('lrp-1', 'patch', options=['map', [['peer', 'ext-r']]]),
        port('lrp-2', 'patch', options=['map', [['peer', 'in-r']]]),
        port('ext-r', 'patch', options=['map', [['peer', 'lrp-1']]], datapath='ext', nat=['set', [
            'fa:16:3e:00:00:01 198.18.9.5 is_chassis_resident(\"cr-1\")',
            'fa:16:3e:00:00:01 198.18.9.6 198.18.9.8 is_chassis_resident(\"cr-1\")',
            'fa:16:3e:00:00:77 198.18.9.7 is_chassis_resident(\"vm1\")']]),
        port('in-r', 'patch', options=['map', [['peer', 'lrp-2']]], datapath='tunnels'),
        dict(port('provnet-1', 'localnet', datapath='ext'), tag=100)],
    'SB_Global': [{'nb_cfg': 7}],
    'Chassis_Private': [{'name': 'uu-1', 'nb_cfg': 7}, {'name': 'uu-2', 'nb_cfg': 7}],
}

def table_of(asked):
    # Both databases have a table of this name; the northbound one is not there.
    columns, do, table = asked[0].split('=')[1].split(','), asked[1], asked[2]
    if table == 'HA_Chassis' and 'chassis' in columns:
        table = 'SB_HA_Chassis'
    if table not in TABLES:
        return None
    key, _, value = (asked[3] if do == 'find' else '').partition('=')
    rows = [[row[column] for column in columns] for row in TABLES[table] if not key or row.get(key) == value]
    return json.dumps({'headings': columns, 'data': rows})

def run(argv):
    if '--format=json' in argv:
        asked = ' '.join(argv).split(' -- ')[1:]
        found = [table_of(one.split()) for one in asked]
        return (1, 'ovn-nbctl: unknown table') if None in found else (0, '\\n'.join(found))
    if argv[-2:] == ['--wait=sb', 'sync']:
        TABLES['SB_Global'][0]['nb_cfg'] += 1
    for change in ' '.join(argv).split(' -- ')[1:]:
        do, table, uuid, *what = change.split()
        row = next(row for row in TABLES[table] if row['_uuid'][1] == uuid)
        ids = dict(row['external_ids'][1])
        if do == 'remove':
            for key in what[1:]:
                del ids[key]
        for key, value in (pair.split('=') for pair in what if do == 'set'):
            if key == 'priority':
                row['priority'] = int(value)
            else:
                ids[key.split(':')[1]] = value.strip('\"')
        row['external_ids'] = ['map', [list(pair) for pair in ids.items()]]
    return 0, ''
";

/// Runs a script with the operations of OVN, `N` and `S` being the commands that they are given.
fn with_ovn(script: &str) {
    let serve = SERVE.replace("def serve():", "def unused():");
    let names = "N, S = ['ovn-nbctl'], ['ovn-sbctl']\n";
    let program = [PROCESS, &serve, OVN_COMMANDS, OVN, ANNOUNCE, names, script].concat();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("program.py");
    std::fs::write(&path, program).unwrap();
    let output = Command::new("/usr/bin/python3").args(["-I", "-B"]).arg(path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn gateways_are_lowered_once_and_given_back_by_their_mark() {
    with_ovn(
        "
first = TABLES['Gateway_Chassis'][0]
before = json.dumps(TABLES)
assert ovn_lower(N, S, 'cmp1') == {'chassis': 'uu-1', 'changed': 1}
assert ovn_lower(N, S, 'cmp1')['changed'] == 0, 'the place that it had would be lost'
assert first['priority'] == 0, first
assert ovn_restore(N, 'cmp2') == 0
# A host that did not come back is no chassis any more, and gets its place back all the same.
gone = TABLES['Chassis'].pop(0)
assert ovn_restore(N, 'cmp1') == 1 and ovn_restore(N, 'cmp1') == 0
TABLES['Chassis'].insert(0, gone)
assert json.dumps(TABLES) == before, TABLES
# A place that somebody gave it meanwhile stays.
ovn_lower(N, S, 'cmp1')
first['priority'] = 7
assert ovn_restore(N, 'cmp1') == 1 and first['priority'] == 7
assert ovn_lower(N, S, 'nowhere') == {'chassis': None, 'changed': 0}
TABLES['Chassis'].append(dict(gone, hostname='cmp1.other'))
try:
    ovn_lower(N, S, 'cmp1')
    raise AssertionError('one of two hosts was chosen')
except Refusal as refusal:
    assert 'cmp1.site, cmp1.other' in str(refusal)
",
    );
}

#[test]
fn a_gateway_has_caught_up_once_it_has_the_newest_generation() {
    with_ovn(
        "
# What it had until now says nothing: it is asked for a generation that is new.
assert ovn_behind(N, S, 'cmp1', None) == {'goal': 8, 'seen': 7}
assert ovn_behind(N, S, 'cmp1', 8) == {'goal': 8, 'seen': 7}
TABLES['Chassis_Private'][0]['nb_cfg'] = 8
assert ovn_behind(N, S, 'cmp1', 8) == {'goal': 8, 'seen': 8}
assert ovn_behind(N, S, 'nowhere', None) == {'goal': 9, 'seen': None}
# OVN before 20.12 keeps it with the chassis.
del TABLES['Chassis_Private']
TABLES['Chassis'][0]['nb_cfg'], TABLES['Chassis'][1]['nb_cfg'] = 9, 7
assert ovn_behind(N, S, 'cmp1', 9) == {'goal': 9, 'seen': 9}
",
    );
}

#[test]
fn where_gateways_are_and_come_next_is_told_of_the_ports_that_a_host_may_have() {
    with_ovn(
        "
assert ovn_gateways(S, 'cmp1') == {
    'cr-1': {'here': True, 'due': True, 'at': 'cmp1.site', 'next': 'cmp2.site'}}, ovn_gateways(S, 'cmp1')
assert ovn_gateways(S, 'cmp2') == {
    'cr-1': {'here': False, 'due': False, 'at': 'cmp1.site', 'next': 'cmp1.site'}}
assert ovn_gateways(S, 'nowhere') == {}
# It was lowered, and nobody has claimed the port yet.
TABLES['SB_HA_Chassis'][0]['priority'] = 0
TABLES['Port_Binding'][0]['chassis'] = ['set', []]
assert ovn_gateways(S, 'cmp1') == {'cr-1': {'here': False, 'due': False, 'at': None, 'next': 'cmp2.site'}}
# A port that is here by no place.
TABLES['Port_Binding'][1]['chassis'] = ['uuid', 'c2']
assert ovn_gateways(S, 'cmp2')['cr-2'] == {'here': True, 'due': False, 'at': 'cmp2.site', 'next': None}
",
    );
}

#[test]
fn what_is_reached_on_an_instances_own_host_is_not_announced() {
    with_ovn(
        "
ports = ovn_router_ports(S, ['cr-1', 'cr-2'])
# 198.18.9.7 is at the host of vm1, and cr-2 leads to no physical network.
assert ports == [{'port': 'cr-1', 'mac': 'fa:16:3e:00:00:01', 'localnets': [['provnet-1', 100]],
                  'addresses': ['198.18.9.5', '198.18.9.6', '198.18.9.8', '2001:db8::5']}], ports
assert ovn_router_ports(S, ['cr-2']) == ovn_router_ports(S, []) == []
",
    );
}

#[test]
fn frames_are_as_the_standards_want_them() {
    with_ovn(
        "
mac, everyone = 'fa163e000001', 'ff' * 6
arp = '0806' + '0001' '0800' '06' '04' '0001' + mac + 'c6120906' + '00' * 6 + 'c6120906'
assert announcement('fa:16:3e:00:00:01', None, '198.18.9.6').hex() == everyone + mac + arp
assert announcement('fa:16:3e:00:00:01', 100, '198.18.9.6').hex() == everyone + mac + '81000064' + arp
address, all_nodes = '20010db8' + '0' * 23 + '5', 'ff02' + '0' * 27 + '1'
header = '60000000' '0020' '3a' 'ff' + address + all_nodes
advertisement = '8800' '430b' 'a0000000' + address + '0201' + mac
seen = announcement('fa:16:3e:00:00:01', None, '2001:db8::5').hex()
assert seen == '333300000001' + mac + '86dd' + header + advertisement, seen
# With its checksum the sum over addresses, length, next header and message is one that receivers take.
summed = address + all_nodes + '00000020' '0000003a' + advertisement
words = [int(summed[at:at + 4], 16) for at in range(0, len(summed), 4)]
assert sum(words) % 0xffff == 0, hex(sum(words))
",
    );
}

#[test]
fn ports_are_announced_through_the_patch_of_their_network() {
    with_ovn(
        "
def port(number, name, localnet):
    return {'_uuid': ['uuid', number], 'name': name, 'external_ids': ['map', [['ovn-localnet-port', localnet]]]}

TABLES = {
    'Port': [port('p1', 'patch-br-int-to-provnet-1', 'provnet-1'),
             port('p2', 'patch-provnet-1-to-br-int', 'provnet-1'),
             port('p3', 'patch-provnet-2-to-br-int', 'provnet-2')],
    'Interface': [{'name': 'patch-br-int-to-provnet-1', 'ofport': 9},
                  {'name': 'patch-provnet-1-to-br-int', 'ofport': 2},
                  {'name': 'patch-provnet-2-to-br-int', 'ofport': -1}],
    'Bridge': [{'name': 'br-int', 'ports': ['uuid', 'p1']},
               {'name': 'br-ex', 'ports': ['set', [['uuid', 'p2'], ['uuid', 'p3']]]}],
    'Open_vSwitch': [{'external_ids': ['map', [['hostname', 'cmp2']]]}],
}
sent, tables_of = [], run

def table_of(asked):
    columns, table = asked[0].split('=')[1].split(','), asked[2]
    return json.dumps({'headings': columns, 'data': [[row[name] for name in columns] for row in TABLES[table]]})

def run(argv):
    if argv[0] == 'ovs-ofctl':
        sent.append(argv)
        return 0, ''
    return tables_of(argv)

V, O = ['ovs-vsctl'], ['ovs-ofctl']
known = {'port': 'cr-1', 'mac': 'fa:16:3e:00:00:01', 'localnets': [['provnet-1', 100]],
         'addresses': ['198.18.9.%d' % last for last in range(200)] * 3}
elsewhere = dict(known, port='cr-2', localnets=[['provnet-3', None]])
# A port that the switch could not make has no number.
assert ovs_patch_ports(V, ['provnet-1', 'provnet-2']) == {'provnet-1': ['br-ex', 2]}
assert ovs_announce(V, O, [known, elsewhere]) == ['cr-1']
assert [argv[:6] for argv in sent] == [['ovs-ofctl', '--timeout=5', 'packet-out', 'br-ex', '2', 'resubmit(,0)']] * 2
assert [len(argv) - 6 for argv in sent] == [500, 100]
assert sent[0][6] == announcement('fa:16:3e:00:00:01', 100, '198.18.9.0').hex()
run = lambda argv: (1, 'ovs-ofctl: br-ex is not a bridge')
try:
    ovs_announce(V, O, [known])
    raise AssertionError('a failure was not told')
except Refusal as refusal:
    assert 'br-ex is not a bridge' in str(refusal)
",
    );
}
