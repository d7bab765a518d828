# placement: routes are a dictionary; schemas are constants whose names tell from which microversion on
# they hold, or which stand in a function of certain microversions.

def extract():
    contract = Contract('placement', 'openstack-placement')
    from oslo_config import cfg
    from placement import conf
    config = cfg.ConfigOpts()
    conf.register_opts(config)
    config.set_override('connection', 'sqlite://', group='placement_database')
    config([], project='placement', default_config_files=[], default_config_dirs=[])
    from placement import microversion

    def microversions():
        return {'min': microversion.min_version_string(), 'max': microversion.max_version_string()}

    def innermost(function):
        """What `wsgify` and plain decorators wrap; versioned ones lead to a table of functions."""
        while True:
            inner = getattr(function, 'func', None) or getattr(function, '__wrapped__', None)
            if inner is None:
                cells = getattr(function, '__closure__', None) or ()
                names = function.__code__.co_freevars if hasattr(function, '__code__') else ()
                held = dict(zip(names, cells))
                if 'qualified_name' in held:
                    return function, held['qualified_name'].cell_contents
                if 'f' in held:
                    function = held['f'].cell_contents
                    continue
                return function, None
            function = inner

    def versioned(function):
        function, name = innermost(function)
        if name is None:
            yield function, (None, None)
            return
        for low, high, implementation in microversion.VERSIONED_METHODS[name]:
            inner, _ = innermost(implementation)
            yield inner, (tuple(low)[:2], tuple(high)[:2])

    def names_in(function, seen):
        """Names that the function, or functions of its module that it calls, use."""
        for name in function.__code__.co_names:
            yield name
            other = function.__globals__.get(name)
            if inspect.isfunction(other) and other.__module__ == function.__module__ and name not in seen:
                seen.add(name)
                yield from names_in(other, seen)

    def schemas_of(function):
        """The schemas that a handler names, each with the version in its name."""
        modules = [value for value in function.__globals__.values()
                   if inspect.ismodule(value) and value.__name__.startswith('placement.schemas.')]
        names = set(names_in(function, set()))
        if '_get_schema' in names:
            names.update(name for module in modules for name in vars(module) if name.startswith('GET_SCHEMA_'))
        for name in sorted(names):
            for module in modules:
                schema = vars(module).get(name)
                if isinstance(schema, dict) and name.isupper():
                    version = re.search(r'_V?(\d+)_(\d+)$', name)
                    kind = 'query' if name.startswith('GET_') else 'request'
                    yield kind, (int(version[1]), int(version[2])) if version else (1, 0), schema

    def operations():
        from placement import handler
        found = {}
        for path, methods in handler.ROUTE_DECLARATIONS.items():
            if not path:
                continue
            for method, function in methods.items():
                operation = {'method': method, 'path': path, 'action': None}
                for implementation, bounds in versioned(function):
                    operation.setdefault('versions', []).append(ranged(bounds))
                    listed = list(schemas_of(implementation))
                    for kind in ('query', 'request'):
                        own = sorted(((since, schema) for k, since, schema in listed if k == kind),
                                     key=lambda item: item[0])
                        for index, (since, schema) in enumerate(own):
                            until = (own[index + 1][0][0], own[index + 1][0][1] - 1) if index + 1 < len(own) else None
                            # The only schema of a function holds wherever the function does.
                            within = overlap(bounds, (None if len(own) == 1 else since, until))
                            if within:
                                operation.setdefault(kind, []).append(ranged(within, schema=plain(schema)))
                found['%s %s' % (method, path)] = operation
        return found

    def rules():
        from placement import policies
        return policies.list_rules()

    contract.part('microversions', microversions)
    contract.part('operations', operations)
    contract.found['api_versions'] = ['v1.0']
    read_common(contract, rules, config)
    return contract.found
