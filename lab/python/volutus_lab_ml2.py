# SPDX-License-Identifier: Apache-2.0
"""ML2 mechanism driver of the lab: binds every port without an agent.

The type of the binding is an option, because it decides whether a later nova
accepts the port: nova 34 (2026.2) refuses ``bridge``.
"""

from neutron_lib.plugins.ml2 import api
from oslo_config import cfg

OPTIONS = [
    cfg.StrOpt('vif_type', default='ovs',
               help='binding:vif_type that every port is bound with.'),
]


class LabMechanismDriver(api.MechanismDriver):
    """Offers one binding for every port on every segment."""

    def initialize(self):
        cfg.CONF.register_opts(OPTIONS, 'volutus_lab')

    @property
    def connectivity(self):
        return 'l2'

    def bind_port(self, context):
        for segment in context.segments_to_bind:
            # ACTIVE at once: there is no agent that would report the wiring.
            context.set_binding(
                segment[api.ID], cfg.CONF.volutus_lab.vif_type,
                {'port_filter': False}, status='ACTIVE')
            return
