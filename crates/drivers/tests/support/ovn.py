# Stands for the commands of OVN and Open vSwitch: `ovn.py FOLDER COMMAND ...`. Two routers, each with a place on
# cmp1 and on another host, to which it goes while the place on cmp1 is lowered. What is sent is in FOLDER/sent.
import json
import os
import sys

folder, command, argv = sys.argv[1], sys.argv[2], sys.argv[3:]
lowered = os.path.join(folder, 'lowered')
is_lowered = os.path.exists(lowered)


def some(*values):
    return ['set', list(values)]


def port(name, kind, chassis=some(), options=(), group=some(), tag=some(), mac=some()):
    return {'logical_port': name, 'type': kind, 'chassis': chassis, 'ha_chassis_group': group, 'tag': tag,
            'options': ['map', list(options)], 'datapath': ['uuid', 'ext'], 'nat_addresses': some(), 'mac': mac}


def router(number):
    at = ['uuid', 'c%d' % number if is_lowered else 'c1']
    return [port('cr-%d' % number, 'chassisredirect', at, [['distributed-port', 'lrp-%d' % number]],
                 ['uuid', 'h%d' % number], mac='fa:16:3e:00:00:0%d 198.18.9.%d/24' % (number, number)),
            port('lrp-%d' % number, 'patch', options=[['peer', 'ext-%d' % number]]),
            port('ext-%d' % number, 'patch', options=[['peer', 'lrp-%d' % number]])]


def place(number):
    ids = [['volutus-priority', '2'], ['volutus-host', 'cmp1']] if is_lowered else []
    return {'_uuid': ['uuid', 'g%d' % number], 'chassis_name': 'uu-1', 'priority': 0 if is_lowered else 2,
            'external_ids': ['map', ids]}


TABLES = {
    'nbctl': {'Gateway_Chassis': [place(2), place(3)]},
    'sbctl': {
        'Chassis': [{'_uuid': ['uuid', 'c%d' % n], 'name': 'uu-%d' % n, 'hostname': 'cmp%d.site' % n} for n in (1, 2, 3)],
        'Chassis_Private': [{'name': 'uu-1', 'nb_cfg': 1}],
        'SB_Global': [{'nb_cfg': 1}],
        'Port_Binding': router(2) + router(3) + [port('provnet', 'localnet', tag=7)],
        'HA_Chassis_Group': [{'_uuid': ['uuid', 'h%d' % n], 'ha_chassis': some(['uuid', 'p1'], ['uuid', 'p%d' % n])}
                             for n in (2, 3)],
        'HA_Chassis': [{'_uuid': ['uuid', 'p%d' % n], 'chassis': ['uuid', 'c%d' % n],
                        'priority': (0 if is_lowered else 2) if n == 1 else 1} for n in (1, 2, 3)]},
    'vsctl': {
        'Port': [{'_uuid': ['uuid', 'a'], 'name': 'patch-provnet-to-br-int',
                  'external_ids': ['map', [['ovn-localnet-port', 'provnet']]]}],
        'Interface': [{'name': 'patch-provnet-to-br-int', 'ofport': 5}],
        'Bridge': [{'name': 'br-ex', 'ports': ['uuid', 'a']}],
        'Open_vSwitch': [{'external_ids': ['map', []]}]}}

if command == 'ofctl':
    with open(os.path.join(folder, 'sent'), 'a') as sent:
        sent.write(' '.join(argv) + '\n')
elif '--format=json' in argv:
    for asked in ' '.join(argv).split(' -- ')[1:]:
        columns, do, table = asked.split()[:3]
        if table not in TABLES[command]:
            sys.exit('ovn-nbctl: unknown table "%s"' % table)
        kind = asked.split()[3].partition('=')[2] if table == 'Port_Binding' else None
        columns = columns.split('=')[1].split(',')
        rows = [row for row in TABLES[command][table] if kind is None or row['type'] == kind]
        print(json.dumps({'headings': columns, 'data': [[row[name] for name in columns] for row in rows]}))
elif 'remove' in argv:
    os.unlink(lowered)
elif 'set' in argv:
    open(lowered, 'w').close()
