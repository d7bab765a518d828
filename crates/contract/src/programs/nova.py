# nova: routes are a list; what a method takes and gives is on its decorators.

def extract():
    contract = Contract('nova', 'nova')
    import nova.conf
    nova.conf.CONF([], project='nova', default_config_files=[], default_config_dirs=[])
    from nova.api.openstack import api_version_request as versions

    def microversions():
        return {'min': dotted(pair(versions.min_api_version())), 'max': dotted(pair(versions.max_api_version()))}

    def operations():
        from nova.api.openstack.compute import routes
        found = {}
        for path, methods in routes.ROUTE_LIST:
            if isinstance(methods, str):
                continue
            for method, (factory, name) in methods.items():
                main, subordinate = factory.args[0], factory.args[1] if len(factory.args) > 1 else []
                if name == 'action':
                    for controller in [main] + list(subordinate):
                        for action, function in sorted(getattr(controller, 'wsgi_actions', {}).items()):
                            add_operation(found, method, path, controller, function, action)
                else:
                    add_operation(found, method, path, main, name)
        return found

    def rules():
        from nova import policies
        return policies.list_rules()

    def extensions():
        from nova.api.openstack.compute import extension_info
        return {item['alias']: {'name': item['name']} for item in extension_info.EXTENSION_LIST}

    contract.part('microversions', microversions)
    contract.part('extensions', extensions)
    contract.part('operations', operations)
    contract.found['api_versions'] = ['v2.0', 'v2.1']
    read_common(contract, rules, nova.conf.CONF)
    return contract.found
