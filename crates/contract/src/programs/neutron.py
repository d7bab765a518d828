# neutron: attribute maps are the contract, extended by extensions, whose aliases are promises of their own.

# What of an attribute is a promise; converting functions are not.
PROMISES = ('allow_post', 'allow_put', 'is_visible', 'default', 'validate', 'is_filter', 'is_sort_key',
            'required_by_policy', 'primary_key')


def extract():
    contract = Contract('neutron', 'neutron')
    from oslo_config import cfg
    from neutron.common import config
    config.register_common_config_options()
    cfg.CONF([], project='neutron', default_config_files=[], default_config_dirs=[])

    def classes():
        """The extensions of neutron itself, as its own loader finds them: in each module the class that
        has the module's name."""
        import pkgutil
        from neutron import extensions as package
        for module in pkgutil.iter_modules(package.__path__):
            if module.name.startswith('_'):
                continue
            loaded = importlib.import_module('neutron.extensions.' + module.name)
            wanted = module.name[0].upper() + module.name[1:]
            extension = getattr(loaded, wanted, None)
            if extension is not None and hasattr(extension, 'get_alias'):
                yield extension

    def extensions():
        return {extension.get_alias(): {'name': str(extension.get_name())} for extension in classes()}

    def definitions():
        import pkgutil
        from neutron_lib.api import definitions as package
        served = set(extensions())
        for module in pkgutil.iter_modules(package.__path__):
            loaded = importlib.import_module('neutron_lib.api.definitions.' + module.name)
            if getattr(loaded, 'ALIAS', None) in served or module.name in ('network', 'port', 'subnet', 'subnetpool'):
                yield loaded

    def attributes(mapping):
        return {name: {promise: plain(value[promise]) for promise in PROMISES if promise in value}
                for name, value in mapping.items()}

    def maps():
        """Attributes by collection, and for a collection below another one, its parent."""
        whole, parents = {}, {}
        sources = [(module.RESOURCE_ATTRIBUTE_MAP, getattr(module, 'SUB_RESOURCE_ATTRIBUTE_MAP', None) or {})
                   for module in definitions() if getattr(module, 'RESOURCE_ATTRIBUTE_MAP', None) is not None]
        for extension in classes():
            try:
                extended = extension().get_extended_resources('2.0') or {}
            except Exception:
                # Extensions that need a plugin say nothing of attributes.
                extended = {}
            sources.append((extended, {}))
        for resources, below in sources:
            for collection, mapping in resources.items():
                if isinstance(mapping, dict) and 'parent' not in mapping:
                    whole.setdefault(collection, {}).update(attributes(mapping))
            for collection, entry in below.items():
                if not isinstance(entry, dict):
                    continue
                parent = entry.get('parent') or {}
                if parent:
                    parents[collection] = parent
                whole.setdefault(collection, {}).update(attributes(entry.get('parameters', entry if not parent else {})))
        return whole, parents

    def resources():
        whole, _ = maps()
        return {collection: {'attributes': mapping, 'use': 'attributes'} for collection, mapping in whole.items()}

    def prefixes():
        found = {}
        for module in definitions():
            prefix = getattr(module, 'API_PREFIX', '') or ''
            for table in ('RESOURCE_ATTRIBUTE_MAP', 'SUB_RESOURCE_ATTRIBUTE_MAP'):
                for collection in getattr(module, table, None) or {}:
                    if prefix and not getattr(module, 'IS_SHIM_EXTENSION', False):
                        found.setdefault(collection, prefix)
        return found

    def operations():
        whole, parents = maps()
        where = prefixes()
        found = {}

        def add(method, path):
            found['%s %s' % (method, path)] = {
                'method': method, 'path': path, 'action': None, 'versions': [ranged((None, None))]}

        def singular(collection):
            return collection[:-3] + 'y' if collection.endswith('ies') else collection[:-1]

        # Of what it serves neutron itself, and no extension of it, tells: of the extensions.
        add('GET', '/extensions')
        add('GET', '/extensions/{id}')
        for collection, mapping in whole.items():
            path = where.get(collection, '') + '/' + collection.replace('_', '-')
            if collection in parents:
                parent = parents[collection]
                path = '%s/%s/{%s_id}/%s' % (where.get(collection, ''), parent['collection_name'].replace('_', '-'),
                                             parent['member_name'], collection.replace('_', '-'))
            if not any(value.get('is_visible') for value in mapping.values()):
                continue
            member = '%s/{%s_id}' % (path, singular(collection))
            add('GET', path)
            add('GET', member)
            if any(value.get('allow_post') for value in mapping.values()):
                add('POST', path)
                add('DELETE', member)
            if any(value.get('allow_put') for value in mapping.values()):
                add('PUT', member)
        for module in definitions():
            for name, actions in (getattr(module, 'ACTION_MAP', None) or {}).items():
                for action, method in actions.items():
                    collection = name + 's' if name + 's' in whole else name[:-1] + 'ies'
                    if collection in whole:
                        path = '%s/%s/{%s_id}/%s' % (
                            where.get(collection, ''), collection.replace('_', '-'), name, action)
                        add(method, path)
        return found

    def rules():
        from neutron import policy  # noqa: F401  registers neutron's own kinds of checks
        from neutron.conf import policies
        return policies.list_rules()

    contract.part('extensions', extensions)
    contract.part('resources', resources)
    contract.part('operations', operations)
    contract.found['api_versions'] = ['v2.0']
    read_common(contract, rules, cfg.CONF)
    return contract.found
