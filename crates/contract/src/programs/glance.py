# glance: the router is built as the API daemon builds it; schemas are what it serves under /v2/schemas.

def extract():
    contract = Contract('glance', 'glance')
    from oslo_config import cfg
    from glance.common import config  # noqa: F401  registers the options
    from glance.api import versions
    cfg.CONF([], project='glance', default_config_files=[], default_config_dirs=[])

    def operations():
        import routes
        from glance.api.v2 import router
        mapper = routes.Mapper()
        router.API(mapper)
        found = {}
        for route in mapper.matchlist:
            resource, name = route.defaults.get('controller'), route.defaults.get('action')
            controller = getattr(resource, 'controller', None)
            if controller is None or name in (None, 'reject'):
                continue
            path = re.sub(r'\{(\w+):[^}]*\}', r'{\1}', route.routepath)
            for method in (route.conditions or {}).get('method') or ['GET']:
                found['%s %s' % (method, path)] = {
                    'method': method, 'path': path, 'action': None, 'versions': [ranged((None, None))]}
        return found

    def schemas():
        from glance.api.v2 import schemas as module
        controller = module.Controller({})
        found = {}
        for name, function in inspect.getmembers(controller, inspect.ismethod):
            if not name.startswith('_'):
                path = name.replace('metadef_', 'metadefs/', 1)
                found['/schemas/' + path] = {'schema': plain(function(None)), 'use': 'published'}
        return found

    def api_versions():
        import types
        # Which of the versions are listed depends on the configuration; here everything is on.
        cfg.CONF.set_override('image_cache_dir', '/nowhere')
        try:
            cfg.CONF.set_override('enabled_backends', {'one': 'file', 'two': 'file'})
        except cfg.NoSuchOptError:
            pass
        import webob
        answer = versions.Controller().index(webob.Request.blank('/'))
        return sorted({entry['id'] for entry in json.loads(answer.body)['versions']})

    def rules():
        from glance import policies
        return policies.list_rules()

    contract.part('operations', operations)
    contract.part('resources', schemas)
    contract.part('api_versions', api_versions)
    read_common(contract, rules, cfg.CONF)
    return contract.found
