# SPDX-License-Identifier: Apache-2.0
"""Volume driver of the lab: every volume is a sparse file in one folder.

The folder is shared by all controllers, so a volume made by one cinder-volume
can be read by another.
"""

import os

from oslo_concurrency import processutils
from oslo_config import cfg
from oslo_utils import units

from cinder import exception
from cinder.image import image_utils
from cinder import interface
from cinder.volume import configuration
from cinder.volume import driver
from cinder.volume import volume_utils

OPTIONS = [
    cfg.StrOpt('volutus_lab_folder', default='/srv/shared/cinder',
               help='Folder that holds the files of the volumes.'),
    cfg.IntOpt('volutus_lab_capacity_gb', default=10000,
               help='Capacity that is reported. The files are sparse, so it '
                    'is not what the folder really has.'),
]

CONF = cfg.CONF
CONF.register_opts(OPTIONS, group=configuration.SHARED_CONF_GROUP)


@interface.volumedriver
class LabVolumeDriver(driver.VolumeDriver):
    """Creates, copies, grows and deletes real files."""

    VERSION = '1.0.0'
    CI_WIKI_NAME = 'Volutus_lab'

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.configuration.append_config_values(OPTIONS)

    @property
    def _folder(self):
        return self.configuration.volutus_lab_folder

    def _path(self, name):
        return os.path.join(self._folder, name)

    def local_path(self, volume):
        return self._path(volume.name)

    def do_setup(self, context):
        os.makedirs(self._folder, exist_ok=True)

    def check_for_setup_error(self):
        if not os.access(self._folder, os.W_OK):
            raise exception.VolumeBackendAPIException(
                data='the folder %s of the volumes is not writable'
                     % self._folder)

    def _update_volume_stats(self):
        capacity = self.configuration.volutus_lab_capacity_gb
        used = sum(
            entry.stat().st_size for entry in os.scandir(self._folder)
            if entry.is_file()) // units.Gi
        self._stats = {
            'volume_backend_name':
                self.configuration.volume_backend_name or 'lab',
            'vendor_name': 'Volutus',
            'driver_version': self.VERSION,
            'storage_protocol': 'local',
            'total_capacity_gb': capacity,
            'free_capacity_gb': max(capacity - used, 0),
            'reserved_percentage': 0,
            'multiattach': True,
            'thin_provisioning_support': True,
            'filter_function': None,
            'goodness_function': None,
        }

    def _copy(self, source, target, size_gb):
        # Volumes are mostly holes, and their folder is small: keep the holes.
        processutils.execute('cp', '--sparse=always', source, target)
        os.truncate(target, size_gb * units.Gi)

    @staticmethod
    def _remove(path):
        try:
            os.unlink(path)
        except FileNotFoundError:
            # Deleting twice has to succeed: cinder repeats a delete that a
            # restart interrupted.
            pass

    def create_volume(self, volume):
        with open(self.local_path(volume), 'wb') as stream:
            stream.truncate(volume.size * units.Gi)

    def delete_volume(self, volume):
        self._remove(self.local_path(volume))

    def extend_volume(self, volume, new_size):
        os.truncate(self.local_path(volume), new_size * units.Gi)

    def create_snapshot(self, snapshot):
        self._copy(self._path(snapshot.volume_name),
                   self._path(snapshot.name), snapshot.volume_size)

    def delete_snapshot(self, snapshot):
        self._remove(self._path(snapshot.name))

    def create_volume_from_snapshot(self, volume, snapshot):
        self._copy(self._path(snapshot.name), self.local_path(volume),
                   volume.size)

    def create_cloned_volume(self, volume, src_vref):
        self._copy(self._path(src_vref.name), self.local_path(volume),
                   volume.size)

    def copy_image_to_volume(self, context, volume, image_service, image_id,
                             disable_sparse=False):
        path = self.local_path(volume)
        image_utils.fetch_to_raw(
            context, image_service, image_id, path,
            self.configuration.volume_dd_blocksize, size=volume.size,
            run_as_root=False)
        os.truncate(path, volume.size * units.Gi)

    def copy_volume_to_image(self, context, volume, image_service,
                             image_meta):
        volume_utils.upload_volume(
            context, image_service, image_meta, self.local_path(volume),
            volume, run_as_root=False)

    def ensure_export(self, context, volume):
        if not os.path.exists(self.local_path(volume)):
            raise exception.VolumeBackendAPIException(
                data='the file %s of the volume is gone'
                     % self.local_path(volume))

    def create_export(self, context, volume, connector):
        pass

    def remove_export(self, context, volume):
        pass

    def initialize_connection(self, volume, connector):
        return {
            'driver_volume_type': 'local',
            'data': {'device_path': self.local_path(volume)},
        }

    def terminate_connection(self, volume, connector, **kwargs):
        pass
