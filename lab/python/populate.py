# SPDX-License-Identifier: Apache-2.0
"""Fills a lab through its APIs. Reads one JSON object on standard input:

    {"stage": "catalog" | "resources" | "instances", "endpoint": "198.18.1.10",
     "password": "...", "instances": 20, "spare": ["cmp3"],
     "real": false, "outer": "198.19.1", "canary_host": "infra1"}

"real" tells that there are guests and networks: "outer" is then the beginning
of the addresses through which instances are reached from outside, and
"canary_host" the host that has a port in every tenant's network. Those ports
are printed as "canary NAME PORT MAC ADDRESS/PREFIX MTU".

Every stage can be repeated: what exists already is left as it is. Lines on
standard output tell what was done.
"""

import json
import sys
import time

import openstack

REGION = 'RegionOne'
SERVICES = (
    # user, name, type, port, path
    ('glance', 'glance', 'image', 9292, ''),
    ('placement', 'placement', 'placement', 8778, ''),
    ('nova', 'nova', 'compute', 8774, '/v2.1'),
    ('neutron', 'neutron', 'network', 9696, ''),
    ('cinder', 'cinder', 'block-storage', 8776, '/v3'),
)
PROBER_PROJECT = 'volutus-probe'
TENANTS = ('alpha', 'beta')
IMAGE_BYTES = 65536
# TEST-NET-2 and TEST-NET-3 (RFC 5737), so that no real network is meant.
TENANT_CIDR = '198.51.100.0/24'
PROBE_CIDR = '203.0.113.0/24'
# Twenty instances take about ten seconds on two free cores; a machine shared
# with other work may need many times that.
INSTANCES_LIMIT_S = 300


def connect(spec, user, project):
    return openstack.connect(
        auth_url='http://%s:5000/v3' % spec['endpoint'], username=user,
        password=spec['password'], project_name=project,
        user_domain_name='Default', project_domain_name='Default',
        region_name=REGION, compute_default_microversion='2.79')


def grant(cloud, project, user, *roles):
    for name in roles:
        role = (cloud.identity.find_role(name)
                or cloud.identity.create_role(name=name))
        cloud.identity.assign_project_role_to_user(project, user, role)


def ensure_project(cloud, name):
    return (cloud.identity.find_project(name)
            or cloud.identity.create_project(name=name, domain_id='default'))


def ensure_user(cloud, name, password):
    return (cloud.identity.find_user(name)
            or cloud.identity.create_user(
                name=name, password=password, domain_id='default'))


def catalog(spec):
    cloud = connect(spec, 'admin', 'admin')
    project = ensure_project(cloud, 'service')
    existing = {service.type for service in cloud.identity.services()}
    for username, name, kind, port, path in SERVICES:
        user = ensure_user(cloud, username, spec['password'])
        # Since 2026.1 nova takes external events from the service role only.
        grant(cloud, project, user, 'admin', 'service')
        if kind in existing:
            continue
        service = cloud.identity.create_service(name=name, type=kind)
        url = 'http://%s:%d%s' % (spec['endpoint'], port, path)
        for interface in ('public', 'internal', 'admin'):
            cloud.identity.create_endpoint(
                service_id=service.id, interface=interface, url=url,
                region_id=REGION)
    print('catalog of %d services' % (len(SERVICES) + 1))


def ensure_network(cloud, name, cidr, real):
    network = (cloud.network.find_network(name)
               or cloud.network.create_network(name=name))
    if not cloud.network.find_subnet(name + '-subnet'):
        cloud.network.create_subnet(
            name=name + '-subnet', network_id=network.id, ip_version=4,
            cidr=cidr, enable_dhcp=real)
    return network


def ensure_outer(cloud, outer):
    network = cloud.network.find_network('outer') or \
        cloud.network.create_network(
            name='outer', is_router_external=True, is_shared=False,
            provider_network_type='flat',
            provider_physical_network='physnet1')
    if not cloud.network.find_subnet('outer-subnet'):
        # Below .100 are the hosts, .1 is the machine.
        cloud.network.create_subnet(
            name='outer-subnet', network_id=network.id, ip_version=4,
            cidr=outer + '.0/24', gateway_ip=outer + '.1', enable_dhcp=False,
            allocation_pools=[{'start': outer + '.100',
                               'end': outer + '.250'}])
    return network


def ensure_router(cloud, name, network, outer):
    """A way out, and a group that lets everybody in: there is nothing to
    protect, and the probes come from outside."""
    if cloud.network.find_router(name):
        return
    router = cloud.network.create_router(
        name=name, external_gateway_info={'network_id': outer.id})
    subnet = cloud.network.find_subnet(network.name + '-subnet')
    cloud.network.add_interface_to_router(router, subnet_id=subnet.id)
    project = cloud.current_project_id
    for group in cloud.network.security_groups(project_id=project):
        if group.name == 'default':
            cloud.network.create_security_group_rule(
                security_group_id=group.id, direction='ingress',
                ether_type='IPv4')


def ensure_canary(cloud, admin, tenant, network, host):
    name = 'canary-' + tenant
    port = cloud.network.find_port(name) or cloud.network.create_port(
        name=name, network_id=network.id)
    admin.network.update_port(port, binding_host_id=host)
    network = cloud.network.get_network(network.id)
    print('canary %s %s %s %s/24 %d' % (
        tenant, port.id, port.mac_address,
        port.fixed_ips[0]['ip_address'], network.mtu))


def ensure_guest_image(cloud, name):
    """The guest's kernel, its initial files, and a disk that names both."""
    parts = {}
    for part, kind, file in (('kernel', 'aki', 'vmlinuz'),
                             ('ramdisk', 'ari', 'initrd.gz')):
        parts[part] = (
            cloud.image.find_image('guest-' + part)
            or cloud.create_image(
                'guest-' + part, filename='/srv/shared/guest/' + file,
                disk_format=kind, container_format=kind,
                visibility='public', wait=True, allow_duplicates=True))
    return (cloud.image.find_image(name)
            or cloud.create_image(
                name, filename='/srv/shared/guest/disk.raw',
                disk_format='raw', container_format='bare',
                visibility='public', wait=True, allow_duplicates=True,
                kernel_id=parts['kernel'].id, ramdisk_id=parts['ramdisk'].id,
                os_command_line='console=ttyS0 quiet no_timer_check panic=5',
                hw_vif_model='virtio', hw_disk_bus='virtio'))


def ensure_image(cloud, name):
    return (cloud.image.find_image(name)
            or cloud.create_image(
                name, data=b'\0' * IMAGE_BYTES, disk_format='raw',
                container_format='bare', visibility='public', wait=True,
                allow_duplicates=True))


def ensure_flavor(cloud, name, ram):
    return (cloud.compute.find_flavor(name)
            or cloud.compute.create_flavor(
                name=name, ram=ram, vcpus=1, disk=1, is_public=True))


def resources(spec):
    cloud = connect(spec, 'admin', 'admin')
    real = spec['real']
    outer = ensure_outer(cloud, spec['outer']) if real else None
    if real:
        # Projects may use it, but not see it as their own.
        policy = cloud.network.rbac_policies(
            object_id=outer.id, action='access_as_external')
        if not list(policy):
            cloud.network.create_rbac_policy(
                object_type='network', object_id=outer.id,
                action='access_as_external', target_project_id='*')
    for name in ('guest-image', 'guest-image-old'):
        (ensure_guest_image if real else ensure_image)(cloud, name)
    # What comes and goes all the time boots nothing: in software that would
    # cost more than everything that is measured.
    ensure_image(cloud, 'probe-image')
    ensure_flavor(cloud, 'lab.small', 128 if real else 64)
    ensure_flavor(cloud, 'probe.nano', 64)
    if not cloud.block_storage.find_type('lab'):
        cloud.block_storage.create_type(name='lab', is_public=True)
    for tenant in TENANTS + (PROBER_PROJECT,):
        project = ensure_project(cloud, tenant)
        name = 'prober' if tenant == PROBER_PROJECT else tenant
        user = ensure_user(cloud, name, spec['password'])
        grant(cloud, project, user, 'member')
    for tenant in TENANTS:
        mine = connect(spec, tenant, tenant)
        network = ensure_network(
            mine, tenant + '-net', TENANT_CIDR, real)
        if real:
            ensure_router(mine, tenant + '-router', network, outer)
            ensure_canary(mine, cloud, tenant, network, spec['canary_host'])
        for number in (1, 2):
            name = '%s-volume-%d' % (tenant, number)
            if not mine.block_storage.find_volume(name):
                mine.block_storage.create_volume(name=name, size=1)
    mine = connect(spec, 'prober', PROBER_PROJECT)
    network = ensure_network(mine, 'probe-net', PROBE_CIDR, real)
    if real:
        ensure_router(mine, 'probe-router', network, outer)
        ensure_canary(mine, cloud, 'probe', network, spec['canary_host'])
    print('projects, users, networks, images, flavors and volumes')


def wait_active(cloud, expected):
    deadline = time.monotonic() + INSTANCES_LIMIT_S
    while True:
        servers = list(cloud.compute.servers())
        for server in servers:
            if server.status == 'ERROR':
                sys.exit('instance %s went into ERROR: %s' % (
                    server.name, (server.fault or {}).get('message')))
        active = sum(server.status == 'ACTIVE' for server in servers)
        if active >= expected:
            return servers
        if time.monotonic() > deadline:
            sys.exit('only %d of %d instances are ACTIVE after %d s' % (
                active, expected, INSTANCES_LIMIT_S))
        time.sleep(0.5)


def ensure_floating_ip(cloud, server):
    """An address outside, for instances that have a port to give it to."""
    outer = cloud.network.find_network('outer')
    port = next(cloud.network.ports(device_id=server.id))
    if not list(cloud.network.ips(port_id=port.id)):
        cloud.network.create_ip(
            floating_network_id=outer.id, port_id=port.id)


def instances(spec):
    """Boots the instances, none of them on a host that is to be left empty."""
    admin = connect(spec, 'admin', 'admin')
    spare = [service for service in admin.compute.services(binary='nova-compute')
             if service.host in spec['spare']]
    for service in spare:
        admin.compute.disable_service(service, disabled_reason='left empty')
    boot_instances(spec)
    for service in spare:
        admin.compute.enable_service(service)


def boot_instances(spec):
    shares = {}
    for number, tenant in enumerate(TENANTS):
        share = spec['instances'] // len(TENANTS)
        if number < spec['instances'] % len(TENANTS):
            share += 1
        cloud = connect(spec, tenant, tenant)
        present = len(list(cloud.compute.servers()))
        missing = share - present
        if missing > 0:
            cloud.compute.create_server(
                name=tenant + '-vm', min_count=missing, max_count=missing,
                image_id=cloud.image.find_image('guest-image').id,
                flavor_id=cloud.compute.find_flavor('lab.small').id,
                networks=[{
                    'uuid': cloud.network.find_network(tenant + '-net').id}])
        shares[tenant] = (cloud, share)
    for tenant, (cloud, share) in shares.items():
        servers = wait_active(cloud, share)
        if spec['real']:
            # libvirt takes no file for a disk, which the lab's volumes are.
            for server in servers:
                ensure_floating_ip(cloud, server)
            continue
        volume = cloud.block_storage.find_volume(tenant + '-volume-1')
        volume = cloud.block_storage.wait_for_status(
            cloud.block_storage.get_volume(volume), 'available',
            failures=['error'], interval=0.5, wait=60) \
            if volume.status != 'in-use' else volume
        if servers and volume.status == 'available':
            cloud.compute.create_volume_attachment(
                servers[0], volume_id=volume.id)
    print('%d instances ACTIVE' % spec['instances'])


def main():
    spec = json.load(sys.stdin)
    {'catalog': catalog, 'resources': resources,
     'instances': instances}[spec['stage']](spec)


main()
