//! What is done to the new release: small changes of real modules of OpenStack 2026.1, each of which
//! breaks what somebody relies on.

/// One change of one service.
pub struct Mutation {
    pub service: &'static str,
    /// What is broken, in a few words.
    pub what: &'static str,
    /// Below the release's `site-packages`.
    pub file: &'static str,
    /// Old text, which stands there exactly once, and what takes its place.
    pub changes: &'static [(&'static str, &'static str)],
    /// The rule by which it is to be found.
    pub rule: &'static str,
    /// What the difference tells besides: where, or as whom.
    pub at: &'static str,
}

const fn one(
    service: &'static str,
    what: &'static str,
    file: &'static str,
    changes: &'static [(&'static str, &'static str)],
    rule: &'static str,
    at: &'static str,
) -> Mutation {
    Mutation { service, what, file, changes, rule, at }
}

/// In the order in which they are tried, service by service.
pub const MUTATIONS: &[Mutation] = &[
    // --- nova ---
    one(
        "nova",
        "a response field is removed",
        "nova/api/openstack/compute/views/flavors.py",
        &[("                \"vcpus\": flavor[\"vcpus\"],\n", "")],
        "field-removed",
        "vcpus",
    ),
    one(
        "nova",
        "a status is changed",
        "nova/api/openstack/compute/limits.py",
        &[("    @wsgi.expected_errors(())\n", "    @wsgi.response(202)\n    @wsgi.expected_errors(())\n")],
        "status-changed",
        "GET /limits",
    ),
    one(
        "nova",
        "the lowest microversion is raised",
        "nova/api/openstack/api_version_request.py",
        &[("_MIN_API_VERSION = '2.1'\n", "_MIN_API_VERSION = '2.10'\n")],
        // Clients that ask for no version get another one; there are enough of those to stop at.
        "header-changed",
        "openstack-api-version was \"compute 2.1\", is \"compute 2.10\"",
    ),
    one(
        "nova",
        "an extension is dropped",
        "nova/api/openstack/compute/extension_info.py",
        &[("        \"alias\": \"OS-EXT-IPS\",\n", "        \"alias\": \"os-ext-ips\",\n")],
        "element-removed",
        "OS-EXT-IPS",
    ),
    one(
        "nova",
        "a value of a query parameter's enumeration is removed",
        "nova/api/openstack/compute/schemas/flavors.py",
        &[("    'updated_at', 'vcpu_weight', 'vcpus'\n]", "    'updated_at', 'vcpu_weight'\n]")],
        "success-became-error",
        "sort_key=vcpus",
    ),
    one(
        "nova",
        "a policy is tightened for members",
        "nova/policies/limits.py",
        &[("check_str=base.RULE_ANY", "check_str=base.ADMIN")],
        "success-became-error",
        "as Member",
    ),
    one(
        "nova",
        "a policy is tightened for readers",
        "nova/policies/server_groups.py",
        &[(
            "name=POLICY_ROOT % 'index',\n        check_str=base.PROJECT_READER_OR_ADMIN",
            "name=POLICY_ROOT % 'index',\n        check_str=base.PROJECT_MEMBER_OR_ADMIN",
        )],
        "success-became-error",
        "as Reader",
    ),
    one(
        "nova",
        "one operation fails by itself",
        "nova/api/openstack/compute/availability_zone.py",
        &[(
            "context.can(az_policies.POLICY_ROOT % 'list', target={})\n",
            "context.can(az_policies.POLICY_ROOT % 'list', target={})\n        context.no_such_attribute\n",
        )],
        "server-error",
        "GET /os-availability-zone",
    ),
    one(
        "nova",
        "a list comes in another order",
        "nova/api/openstack/compute/flavors.py",
        &[("req.params.get('sort_dir') or 'asc'", "req.params.get('sort_dir') or 'desc'")],
        "order-changed",
        "flavors",
    ),
    one(
        "nova",
        "a field of every user's instances is removed",
        "nova/api/openstack/compute/views/servers.py",
        &[("                \"accessIPv4\": str(ip_v4) if ip_v4 is not None else '',\n", "")],
        "field-removed",
        "accessIPv4",
    ),
    // --- cinder ---
    one(
        "cinder",
        "a response field is removed",
        "cinder/api/v3/views/types.py",
        &[("                       is_public=volume_type.get('is_public'),\n", "")],
        "field-removed",
        "is_public",
    ),
    one(
        "cinder",
        "the lowest microversion is raised",
        "cinder/api/openstack/api_version_request.py",
        &[("_MIN_API_VERSION = \"3.0\"\n", "_MIN_API_VERSION = \"3.10\"\n")],
        "success-became-error",
        "at 3.0 as",
    ),
    one(
        "cinder",
        "an extension is dropped",
        "cinder/api/contrib/availability_zones.py",
        &[
            ("class Availability_zones(", "class Zones("),
            ("ResourceExtension(Availability_zones.", "ResourceExtension(Zones."),
        ],
        "success-became-error",
        "os-availability-zone",
    ),
    one(
        "cinder",
        "a policy is tightened for members",
        "cinder/policies/volume_type.py",
        &[
            (
                "    name=GET_ALL_POLICY,\n    check_str=\"\"\n",
                "    name=GET_ALL_POLICY,\n    check_str=base.RULE_ADMIN_API\n",
            ),
            (
                "name=GET_ALL_POLICY,\n        check_str=base.SYSTEM_READER_OR_PROJECT_READER",
                "name=GET_ALL_POLICY,\n        check_str=base.RULE_ADMIN_API",
            ),
        ],
        "success-became-error",
        "as Member",
    ),
    one(
        "cinder",
        "one operation fails by itself",
        "cinder/api/v3/resource_filters.py",
        &[("resource = req.params.get('resource', None)\n", "resource = req.params['resource'].lower()\n")],
        "server-error",
        "GET /resource_filters",
    ),
    one(
        "cinder",
        "a list comes in another order",
        "cinder/api/common.py",
        &[("default_dir: str = 'desc')", "default_dir: str = 'asc')")],
        "order-changed",
        "volume",
    ),
    // --- glance ---
    one(
        "glance",
        "a response field is removed",
        "glance/api/v2/images.py",
        &[("'checksum', 'protected', 'min_ram', 'min_disk',\n", "'checksum', 'protected', 'min_ram',\n")],
        "field-removed",
        "min_disk",
    ),
    one(
        "glance",
        "a value of an enumeration is removed",
        "glance/api/v2/images.py",
        &[(
            "            'enum': ['community', 'public', 'private', 'shared'],\n",
            "            'enum': ['public', 'private', 'shared'],\n",
        )],
        "element-removed",
        "community",
    ),
    one(
        "glance",
        "a policy is tightened for readers",
        "glance/policies/image.py",
        &[(
            "name=\"get_images\",\n        check_str=base.ADMIN_OR_PROJECT_READER",
            "name=\"get_images\",\n        check_str=base.ADMIN_OR_PROJECT_MEMBER",
        )],
        "success-became-error",
        "as Reader",
    ),
    one(
        "glance",
        "one operation fails by itself",
        "glance/api/v2/discovery.py",
        &[("'value': CONF.get('enabled_import_methods')", "'value': CONF.get('enabled_import_method')")],
        "server-error",
        "GET /info/import",
    ),
    one(
        "glance",
        "a list comes in another order",
        "glance/api/v2/images.py",
        &[("_default_sort_dir = 'desc'", "_default_sort_dir = 'asc'")],
        "order-changed",
        "images",
    ),
    // --- keystone ---
    one(
        "keystone",
        "a response field is removed",
        "keystone/api/services.py",
        &[(
            "refs = PROVIDERS.catalog_api.list_services(hints=hints)\n",
            "refs = PROVIDERS.catalog_api.list_services(hints=hints)\n        refs = [\n            {k: v for k, v in ref.items() if k != 'enabled'} for ref in refs\n        ]\n",
        )],
        "field-removed",
        "services[].enabled",
    ),
    one(
        "keystone",
        "a value of a query parameter's enumeration is removed",
        "keystone/catalog/schema.py",
        &[(
            "endpoint_index_request_query: dict[str, Any] = {\n    \"type\": \"object\",\n    \"properties\": {\n        \"interface\": {\n            \"type\": \"string\",\n            \"enum\": [\"admin\", \"internal\", \"public\"]",
            "endpoint_index_request_query: dict[str, Any] = {\n    \"type\": \"object\",\n    \"properties\": {\n        \"interface\": {\n            \"type\": \"string\",\n            \"enum\": [\"internal\", \"public\"]",
        )],
        "success-became-error",
        "interface=admin",
    ),
    one(
        "keystone",
        "a policy is tightened for members",
        "keystone/common/policies/region.py",
        &[(
            "name=base.IDENTITY % 'list_regions',\n        check_str=''",
            "name=base.IDENTITY % 'list_regions',\n        check_str=base.RULE_ADMIN_REQUIRED",
        )],
        "success-became-error",
        "as Member",
    ),
    one(
        "keystone",
        "one operation fails by itself",
        "keystone/api/regions.py",
        &[(
            "        ENFORCER.enforce_call(action='identity:get_region')\n",
            "        ENFORCER.enforce_call(action='identity:get_region')\n        region_id = region_id.name\n",
        )],
        "server-error",
        "GET /v3/regions/{region_id}",
    ),
    one(
        "keystone",
        "a list comes in another order",
        "keystone/api/roles.py",
        &[(
            "refs = PROVIDERS.role_api.list_roles(hints=hints)\n",
            "refs = PROVIDERS.role_api.list_roles(hints=hints)[::-1]\n",
        )],
        "order-changed",
        "roles",
    ),
    // --- neutron ---
    one(
        "neutron",
        "a response field is removed",
        "neutron/db/db_base_plugin_common.py",
        &[("'enable_dhcp': subnet['enable_dhcp'],\n               'ipv6_ra_mode'", "'ipv6_ra_mode'")],
        "field-removed",
        "enable_dhcp",
    ),
    one(
        "neutron",
        "an extension is dropped",
        "neutron/plugins/ml2/plugin.py",
        &[("                                    port_mac_address_regenerate.ALIAS,\n", "")],
        "element-removed",
        "port-mac-address-regenerate",
    ),
    one(
        "neutron",
        "a policy is tightened for readers",
        "neutron/conf/policies/security_group.py",
        &[(
            "name='get_security_group',\n        check_str=neutron_policy.policy_or(\n            base.ADMIN_OR_PROJECT_READER",
            "name='get_security_group',\n        check_str=neutron_policy.policy_or(\n            base.ADMIN_OR_PROJECT_MEMBER",
        )],
        "element-removed",
        "as Reader",
    ),
    one(
        "neutron",
        "one operation fails by itself",
        "neutron/db/servicetype_db.py",
        &[(
            "        if filters and 'service_type' in filters:\n",
            "        if filters['service_type'] or 'service_type' in filters:\n",
        )],
        "server-error",
        "GET /service-providers",
    ),
    one(
        "neutron",
        "a list comes in another order",
        "neutron/api/api_common.py",
        &[("append((self.primary_key, True))", "append((self.primary_key, False))")],
        "order-changed",
        "neutron",
    ),
    // --- placement ---
    one(
        "placement",
        "a response field is removed",
        "placement/handlers/resource_provider.py",
        &[("        data['root_provider_uuid'] = resource_provider.root_provider_uuid\n", "")],
        "field-removed",
        "root_provider_uuid",
    ),
    one(
        "placement",
        "a status is changed",
        "placement/handlers/trait.py",
        &[(
            "    req.response.status = 204\n    req.response.content_type = None\n    if want_version.matches((1, 15)):\n        req.response.last_modified = trait.created_at\n",
            "    req.response.status = 200\n    req.response.content_type = None\n    if want_version.matches((1, 15)):\n        req.response.last_modified = trait.created_at\n",
        )],
        "status-changed",
        "GET /traits/{name}",
    ),
    one(
        "placement",
        "the lowest microversion is raised",
        "placement/microversion.py",
        &[("    '1.0',\n", "")],
        "success-became-error",
        "at 1.0 as",
    ),
    one(
        "placement",
        "one operation fails by itself",
        "placement/handlers/resource_class.py",
        &[("    rcs = rc_obj.get_all(context)\n", "    rcs = rc_obj.get_all(context).names\n")],
        "server-error",
        "GET /resource_classes",
    ),
    one(
        "placement",
        "a list comes in another order",
        "placement/handlers/trait.py",
        &[("    for trait in traits:\n", "    for trait in reversed(list(traits)):\n")],
        "order-changed",
        "traits",
    ),
];
