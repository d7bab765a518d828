# keystone: the Flask application without its middleware knows every route.

def extract():
    contract = Contract('keystone', 'keystone')
    import keystone.conf
    keystone.conf.configure()
    keystone.conf.CONF([], project='keystone', default_config_files=[], default_config_dirs=[])

    def application():
        from keystone.server.flask import application as module
        return module.application_factory()

    def operations():
        found = {}
        app = application()
        for rule in app.url_map.iter_rules():
            path = re.sub(r'<(?:[^:<>]+:)?([^<>]+)>', r'{\1}', rule.rule)
            if path.startswith('/static/') or path == '/static/{filename}':
                continue
            view = app.view_functions.get(rule.endpoint)
            for method in sorted((rule.methods or set()) - {'OPTIONS', 'HEAD'}):
                key = '%s %s' % (method, path)
                operation = {'method': method, 'path': path, 'action': None, 'versions': [ranged((None, None))]}
                function = handler(view, method)
                for kind in ('request_body', 'request_query', 'response_body'):
                    schema = getattr(function, '_%s_schema' % kind, None)
                    if isinstance(schema, dict):
                        name = {'request_body': 'request', 'request_query': 'query', 'response_body': 'response'}[kind]
                        operation[name] = [ranged((None, None), schema=plain(schema))]
                found[key] = operation
        return found

    def handler(view, method):
        owner = getattr(view, 'view_class', None)
        if owner is None:
            return view
        return getattr(owner, method.lower(), None)

    def api_versions():
        from keystone.api import discovery
        listed = discovery._get_versions_list('http://host/')
        return sorted(entry['id'] for entry in listed.values())

    def schemas():
        """Schemas that methods validate by themselves, without a decorator."""
        found = {}
        import pkgutil
        import keystone as package
        for module in pkgutil.walk_packages(package.__path__, 'keystone.'):
            if not module.name.endswith('.schema') or '.tests.' in module.name:
                continue
            loaded = importlib.import_module(module.name)
            for name, value in vars(loaded).items():
                if not name.startswith('_') and isinstance(value, dict) and (
                        value.get('type') == 'object' and 'properties' in value):
                    found['%s.%s' % (module.name, name)] = {'schema': plain(value), 'use': 'internal'}
        return found

    def rules():
        from keystone.common import policies
        return policies.list_rules()

    contract.part('operations', operations)
    contract.part('api_versions', api_versions)
    contract.part('resources', schemas)
    read_common(contract, rules, keystone.conf.CONF)
    return contract.found
