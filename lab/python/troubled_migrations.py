

# What follows is appended by faults of the lab, and does nothing unless their files exist.
import time  # noqa: E402

from nova import exception  # noqa: E402

# Live migrations off this host go on, as those of a guest that writes faster
# than the network sends. They can be completed by force and broken off, as
# with libvirt.
HELD = '/var/lib/volutus-lab-held-migrations'
# This host takes no instance by live migration.
REFUSED = '/var/lib/volutus-lab-refused-migrations'


class _TroubledDriver(LabDriver):

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._ordered = {}

    def check_can_live_migrate_destination(self, context, instance, *args,
                                           **kwargs):
        if os.path.exists(REFUSED):
            raise exception.MigrationPreCheckError(
                reason='the lab lets this host refuse')
        return super().check_can_live_migrate_destination(
            context, instance, *args, **kwargs)

    def live_migration(self, context, instance, dest, post_method,
                       recover_method, block_migration=False,
                       migrate_data=None):
        while os.path.exists(HELD) and instance.uuid not in self._ordered:
            time.sleep(0.2)
        if self._ordered.pop(instance.uuid, None) == 'abort':
            recover_method(context, instance, dest, migrate_data,
                           migration_status='cancelled')
        else:
            super().live_migration(context, instance, dest, post_method,
                                   recover_method, block_migration,
                                   migrate_data)

    def live_migration_force_complete(self, instance):
        self._ordered[instance.uuid] = 'complete'

    def live_migration_abort(self, instance):
        self._ordered[instance.uuid] = 'abort'


LabDriver = _TroubledDriver
