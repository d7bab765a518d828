# SPDX-License-Identifier: Apache-2.0
"""Virt driver of the lab: nova's fake driver, made to outlive its process.

The fake drivers of nova keep their instances in memory, so a restarted
nova-compute finds none of them, and they invent a new node identity. This one
keeps instances, interfaces and volume attachments in a file under nova's
state path and uses the stable identity that nova itself keeps in
``compute_id``. A compute daemon can therefore be upgraded, taken back or
rebooted with its instances still there, and instances can be live-migrated
between releases.

nova loads drivers from its own ``nova.virt`` namespace only, hence the place
where this file is installed: ``nova/virt/volutus_lab.py``.
"""

import functools
import json
import os
import threading

from nova.compute import power_state
import nova.conf
from nova.virt import fake

CONF = nova.conf.CONF

STATE_FILE = 'volutus-lab-instances.json'


def _persisted(method):
    """Writes the state file after a method that changes what runs here.

    Also after an exception, because the fake driver may have changed its
    state before it raised.
    """

    @functools.wraps(method)
    def wrapper(self, *args, **kwargs):
        try:
            return method(self, *args, **kwargs)
        finally:
            self._save()

    return wrapper


class LabDriver(fake.FakeDriverWithoutFakeNodes):
    """A hypervisor without guests whose bookkeeping is durable."""

    def __init__(self, virtapi, read_only=False):
        super().__init__(virtapi, read_only)
        self._sizes = {}
        self._save_lock = threading.Lock()

    @property
    def _path(self):
        return os.path.join(CONF.state_path, STATE_FILE)

    def init_host(self, host):
        super().init_host(host)
        if not os.path.exists(self._path):
            return
        with open(self._path) as stream:
            state = json.load(stream)
        for uuid, entry in state['instances'].items():
            self.instances[uuid] = fake.FakeInstance(
                entry['name'], entry['power_state'], uuid)
            self._sizes[uuid] = tuple(entry['size'])
            self.resources.claim(*self._sizes[uuid])
        # nova only asks whether an interface is attached, so its id is enough.
        self._interfaces = {vif: {} for vif in state['interfaces']}
        self._mounts = state['mounts']

    def _save(self):
        with self._save_lock:
            state = {
                'instances': {
                    uuid: {
                        'name': instance.name,
                        'power_state': instance.state,
                        'size': self._sizes.get(uuid, (0, 0, 0)),
                    }
                    for uuid, instance in list(self.instances.items())
                },
                'interfaces': list(self._interfaces),
                'mounts': self._mounts,
            }
            unfinished = self._path + '.new'
            with open(unfinished, 'w') as stream:
                json.dump(state, stream, default=str)
            os.replace(unfinished, self._path)

    def _forget(self, uuid):
        if self.instances.pop(uuid, None) is not None:
            self.resources.release(*self._sizes.pop(uuid, (0, 0, 0)))

    def get_host_ip_addr(self):
        return CONF.my_ip

    @_persisted
    def spawn(self, context, instance, *args, **kwargs):
        # A rebuild or a hard reboot spawns an instance that is known already.
        self._forget(instance.uuid)
        flavor = instance.flavor
        self._sizes[instance.uuid] = (
            flavor.vcpus, flavor.memory_mb, flavor.root_gb)
        return super().spawn(context, instance, *args, **kwargs)

    @_persisted
    def destroy(self, context, instance, network_info, *args, **kwargs):
        for vif in network_info or ():
            self._interfaces.pop(vif['id'], None)
        self._mounts.pop(instance.name, None)
        self._forget(instance.uuid)

    def cleanup(self, context, instance, network_info, *args, **kwargs):
        # Reached on the source of a live migration too, where the instance
        # has left without having been destroyed.
        self.destroy(context, instance, network_info)

    @_persisted
    def post_live_migration(self, context, instance, *args, **kwargs):
        self._mounts.pop(instance.name, None)
        self._forget(instance.uuid)

    @_persisted
    def pre_live_migration(self, context, instance, block_device_info,
                           network_info, disk_info, migrate_data):
        for vif in network_info or ():
            self._interfaces[vif['id']] = vif
        return migrate_data

    @_persisted
    def rollback_live_migration_at_destination(self, context, instance,
                                               network_info, *args, **kwargs):
        for vif in network_info or ():
            self._interfaces.pop(vif['id'], None)

    @_persisted
    def post_live_migration_at_source(self, context, instance, network_info):
        for vif in network_info or ():
            self._interfaces.pop(vif['id'], None)

    @_persisted
    def finish_revert_migration(self, context, instance, network_info,
                                migration, block_device_info=None,
                                power_on=True, **kwargs):
        state = power_state.RUNNING if power_on else power_state.SHUTDOWN
        self.instances[instance.uuid] = fake.FakeInstance(
            instance.name, state, instance.uuid)

    @_persisted
    def power_off(self, instance, *args, **kwargs):
        return super().power_off(instance, *args, **kwargs)

    @_persisted
    def power_on(self, context, instance, *args, **kwargs):
        return super().power_on(context, instance, *args, **kwargs)

    @_persisted
    def attach_interface(self, context, instance, image_meta, vif):
        return super().attach_interface(context, instance, image_meta, vif)

    @_persisted
    def detach_interface(self, context, instance, vif):
        return super().detach_interface(context, instance, vif)

    @_persisted
    def attach_volume(self, context, connection_info, instance, mountpoint,
                      *args, **kwargs):
        return super().attach_volume(
            context, connection_info, instance, mountpoint, *args, **kwargs)

    @_persisted
    def detach_volume(self, context, connection_info, instance, mountpoint,
                      *args, **kwargs):
        return super().detach_volume(
            context, connection_info, instance, mountpoint, *args, **kwargs)
