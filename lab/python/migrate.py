# SPDX-License-Identifier: Apache-2.0
"""Live-migrates one instance through nova's API and waits for the end. Reads
one JSON object on standard input:

    {"endpoint": "198.18.1.10", "password": "...", "server": "UUID",
     "host": "cmp2", "limit_s": 180}

Prints one JSON object: seconds, status of the instance, its host afterwards.
"""

import json
import sys
import time

import openstack


def main():
    spec = json.load(sys.stdin)
    cloud = openstack.connect(
        auth_url='http://%s:5000/v3' % spec['endpoint'], username='admin',
        password=spec['password'], project_name='admin',
        user_domain_name='Default', project_domain_name='Default',
        region_name='RegionOne', compute_default_microversion='2.79')
    cloud.compute.get_server(spec['server'])
    began = time.monotonic()
    # "auto": nova copies the disk where it is not shared.
    cloud.compute.live_migrate_server(
        spec['server'], host=spec['host'], block_migration='auto')
    while True:
        server = cloud.compute.get_server(spec['server'])
        elapsed = time.monotonic() - began
        if server.task_state is None and (
                server.compute_host == spec['host']
                or server.status != 'ACTIVE' or elapsed > 5):
            # Refused ones are idle where they were.
            break
        if elapsed > spec['limit_s']:
            break
        time.sleep(0.2)
    json.dump({'seconds': round(elapsed, 1), 'status': server.status,
               'task_state': server.task_state,
               'host': server.compute_host}, sys.stdout)


main()
