# cinder: the router is built as the API daemon builds it; nothing that it builds connects anywhere.

def extract():
    contract = Contract('cinder', 'cinder')
    from oslo_config import cfg
    from cinder import objects
    objects.register_all()
    from cinder.common import config  # noqa: F401  registers the options
    cfg.CONF([], project='cinder', default_config_files=[], default_config_dirs=[])
    # Controllers ask the database which RPC versions the other daemons know. There is no database here,
    # and nobody to call.
    cfg.CONF.set_override('connection', 'sqlite://', group='database')
    from cinder import rpc
    rpc.get_client = lambda *_args, **_more: None
    objects.Service.get_minimum_rpc_version = classmethod(lambda *_args, **_more: None)
    objects.Service.get_minimum_obj_version = classmethod(lambda *_args, **_more: None)
    from cinder.api.openstack import api_version_request as versions

    def microversions():
        return {'min': dotted(pair(versions.min_api_version())), 'max': dotted(pair(versions.max_api_version()))}

    def operations():
        from cinder.api.v3 import router
        found = {}
        for route in router.APIRouter().map.matchlist:
            resource = route.defaults.get('controller')
            name = route.defaults.get('action')
            controller = getattr(resource, 'controller', None)
            if controller is None or not name:
                continue
            path = '/' + re.sub(r'\{(\w+):[^}]*\}', r'{\1}', re.sub(r':\((\w+)\)|:(\w+)', r'{\1\2}', route.routepath)).lstrip('/')
            # The project's id in the path is the same operation once more; and no format is in use.
            path = path.replace('/{project_id}', '', 1) if path.startswith('/{project_id}') else path
            path = re.sub(r'\.?\{format\}|\.:format', '', path).rstrip('/') or '/'
            if path.endswith(('/new', '/edit')):
                continue
            for method in (route.conditions or {}).get('method') or ['GET']:
                if name == 'action':
                    actions = getattr(resource, 'wsgi_actions', {}) or {}
                    for action, function in sorted(actions.items()):
                        # A versioned method is bound by a function of its own, which has no owner.
                        owner = type(getattr(function, '__self__', controller))
                        method_name = getattr(owner, 'wsgi_actions', {}).get(action, function.__name__)
                        add_operation(found, method, path, owner, method_name, action)
                    if getattr(type(controller), 'action', None):
                        add_operation(found, method, path, type(controller), name)
                else:
                    add_operation(found, method, path, type(controller), name)
        for operation in found.values():
            # Two routes to one method are one operation.
            for kind in ('versions', 'request', 'query', 'response', 'success', 'errors'):
                if kind in operation:
                    unique = {json.dumps(item, sort_keys=True): item for item in operation[kind]}
                    operation[kind] = [unique[key] for key in sorted(unique)]
        return found

    def extensions():
        from cinder.api import extensions as module
        manager = module.ExtensionManager()
        return {alias: {'name': str(item.name)} for alias, item in manager.extensions.items()}

    def rules():
        from cinder import policies
        return policies.list_rules()

    contract.part('microversions', microversions)
    contract.part('operations', operations)
    contract.part('extensions', extensions)
    contract.found['api_versions'] = ['v3.0']
    read_common(contract, rules, cfg.CONF)
    return contract.found
