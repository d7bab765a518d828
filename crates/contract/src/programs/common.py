# Shared by the programs that read the API contract of one service out of its installed packages.
# They run in the release's own Python, start no service, open no connection, and need no
# configuration. Python 3.9 and the release's own packages are all they use.
import importlib
import importlib.metadata
import importlib.util
import inspect
import json
import os
import re
import resource
import socket
import sys
import warnings

# Bounds of one program: neutron, the largest, needs 350 MB and 12 s of processor time.
MEMORY_BYTES_MAX = 4 << 30
PROCESSOR_S_MAX = 120
FILE_BYTES_MAX = 64 << 20
# How deep a schema may nest; the deepest known has 14 levels. A schema that contains itself ends here.
DEPTH_MAX = 60
# Packages of vendors that may be missing; cinder's drivers name a dozen.
STUBS_MAX = 40


def bound():
    """Limits that this process cannot lift, and no way to the network."""
    for kind, most in ((resource.RLIMIT_AS, MEMORY_BYTES_MAX), (resource.RLIMIT_CPU, PROCESSOR_S_MAX),
                       (resource.RLIMIT_FSIZE, FILE_BYTES_MAX), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))

    def refuse(*_args, **_kwargs):
        raise OSError('reading a contract needs no network')
    for name in ('connect', 'connect_ex', 'bind', 'sendto'):
        setattr(socket.socket, name, refuse)
    socket.create_connection = refuse
    socket.getaddrinfo = refuse
    warnings.simplefilter('ignore')


class Contract:
    """What is found of one service. A part that cannot be read is named with the reason, so that
    nobody takes it for empty."""

    def __init__(self, service, distribution):
        self.service = service
        self.distribution = distribution
        self.found = {
            'version': importlib.metadata.version(distribution),
            'microversions': None, 'api_versions': [], 'extensions': {}, 'operations': {},
            'resources': {}, 'policies': {}, 'options': {}, 'scripts': [], 'unobserved': {},
        }
        # Some modules that list options add arguments to the command line, which is only possible before
        # it is read.
        self.part('options', lambda: read_options(distribution))

    def part(self, name, read):
        """Fills one part by `read`; where that fails, the part is unobserved."""
        try:
            self.found[name] = read()
        except Exception as error:  # every kind of trouble of foreign code has the same answer
            self.found['unobserved'][name] = '%s: %s' % (type(error).__name__, str(error)[:300])


def plain(value, depth=0):
    """`value` as JSON can carry it, the same for every run."""
    if depth > DEPTH_MAX:
        return {'$cut': 'nested too deeply'}
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        # JSON has no infinity and no NaN.
        return value if value - value == 0 else str(value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, dict):
        return {str(key): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted((plain(item, depth + 1) for item in value), key=lambda item: json.dumps(item, sort_keys=True))
    if isinstance(value, (list, tuple)):
        return [plain(item, depth + 1) for item in value]
    if isinstance(value, re.Pattern):
        return value.pattern
    if hasattr(value, 'items') and callable(value.items):
        return {str(key): plain(item, depth + 1) for key, item in value.items()}
    if callable(value):
        return 'function ' + getattr(value, '__name__', type(value).__name__)
    text = str(value)
    # The address of an object is another one in every process.
    return re.sub(r' at 0x[0-9a-f]+', '', text)


# --- microversions -------------------------------------------------------------------------------

def pair(version):
    """A microversion as (major, minor); None where there is none."""
    if version is None:
        return None
    if isinstance(version, tuple):
        return version[:2]
    if hasattr(version, 'get_string'):
        # The class of nova and cinder, which has no text where it stands for no version.
        try:
            version = version.get_string()
        except ValueError:
            return None
    text = str(version)
    if not text or text == 'None':
        return None
    major, minor = text.split('.')
    return int(major), int(minor)


def dotted(version):
    return None if version is None else '%d.%d' % version


def overlap(one, other):
    """The part of two ranges that both have; None where there is none. None as a bound is open."""
    low = one[0] if other[0] is None else other[0] if one[0] is None else max(one[0], other[0])
    high = one[1] if other[1] is None else other[1] if one[1] is None else min(one[1], other[1])
    if low is not None and high is not None and low > high:
        return None
    return low, high


def ranged(bounds, **values):
    return dict(min=dotted(bounds[0]), max=dotted(bounds[1]), **values)


# --- what decorators left on a function ------------------------------------------------------------

def layers(function):
    """The function and everything that it wraps, outermost first, each with the variables that its
    decorator gave it."""
    seen = []
    while function is not None and function not in seen:
        seen.append(function)
        code = getattr(function, '__code__', None)
        cells = getattr(function, '__closure__', None) or ()
        variables = {}
        for name, cell in zip(code.co_freevars if code else (), cells):
            try:
                variables[name] = cell.cell_contents
            except ValueError:
                pass
        yield function, variables
        function = getattr(function, '__wrapped__', None)


def kind_of_schema(variables):
    """Which schema a validating decorator holds, and under which name."""
    for name in variables:
        if name.endswith('schema') and isinstance(variables[name], dict):
            if 'query' in name:
                return 'query', name
            if 'response' in name:
                return 'response', name
            if 'request' in name or 'body' in name:
                return 'request', name
    return None, None


def describe(function, bounds, operation):
    """Adds to `operation` what one function that implements it, within these versions, declares."""
    function = getattr(function, '__func__', function)
    codes = getattr(function, 'wsgi_codes', None)
    codes = getattr(codes, '_codes', getattr(codes, 'codes', None)) or []
    if not codes and getattr(function, 'wsgi_code', None):
        codes = [(function.wsgi_code, None, None)]
    inner = bounds
    declared = []
    for layer, variables in layers(function):
        if 'min_version' not in variables:
            continue
        within = (pair(variables['min_version']), pair(variables.get('max_version')))
        kind, name = kind_of_schema(variables)
        if kind:
            declared.append((kind, within, {'schema': plain(variables[name])}))
        elif 'errors' in variables:
            errors = variables['errors']
            errors = [errors] if isinstance(errors, int) else errors
            declared.append(('errors', within, {'codes': sorted(set(errors))}))
        elif set(variables) <= {'min_version', 'max_version', 'f', 'func', 'status_code'}:
            # Only the versions in which the method exists at all.
            inner = overlap(inner, within) or inner
    operation.setdefault('versions', []).append(ranged(inner))
    if getattr(function, 'removed', False):
        operation['removed'] = True
    for kind, within, values in declared:
        within = overlap(inner, within)
        if within:
            operation.setdefault(kind, []).append(ranged(within, **values))
    for code, low, high in codes:
        within = overlap(inner, (pair(low), pair(high)))
        if within:
            operation.setdefault('success', []).append(ranged(within, codes=[int(code)]))


def implementations(controller, name):
    """The functions behind a controller's method, with the versions in which each answers."""
    for entry in (getattr(controller, 'versioned_methods', None) or {}).get(name, []):
        yield entry.func, (pair(entry.start_version), pair(entry.end_version))
        # A method of some versions shadows an unversioned one of the same name.
    if name not in (getattr(controller, 'versioned_methods', None) or {}):
        function = inspect.getattr_static(controller, name, None)
        if function is not None:
            yield getattr(function, '__func__', function), (None, None)


def add_operation(operations, method, path, controller, name, action=None):
    key = '%s %s' % (method, path) + (' (%s)' % action if action else '')
    operation = operations.setdefault(key, {'method': method, 'path': path, 'action': action})
    for function, bounds in implementations(controller, name):
        describe(function, bounds, operation)
    if 'versions' not in operation:
        # A route to a method that is not there answers 404.
        del operations[key]


# --- policies --------------------------------------------------------------------------------------

ROLES = {'reader': ['reader'], 'member': ['member', 'reader'], 'admin': ['admin', 'member', 'reader']}


def read_policies(rules, conf):
    """The defaults of all rules, and whom they allow: asked of oslo.policy itself, for a user of
    each role in their own project, about their own objects."""
    from oslo_policy import opts
    from oslo_policy import policy
    opts._register(conf)
    conf.set_override('policy_file', 'volutus-has-none.yaml', group='oslo_policy')
    conf.set_override('policy_dirs', [], group='oslo_policy')
    rules = list(rules)
    enforcer = policy.Enforcer(conf)
    enforcer.suppress_deprecation_warnings = True
    enforcer.suppress_default_change_warnings = True
    enforcer.register_defaults(rules)
    enforcer.load_rules()
    keys = set()
    for rule in rules:
        texts = [rule.check_str]
        if rule.deprecated_rule:
            texts.append(rule.deprecated_rule.check_str)
        for text in texts:
            keys.update(re.findall(r'%\(([^)]+)\)s', str(text)))
    mine = {'user': 'my-user', 'domain': 'my-domain', 'project': 'my-project', 'tenant': 'my-project'}
    target = {'project_id': 'my-project', 'tenant_id': 'my-project', 'user_id': 'my-user'}
    for key in keys:
        last = key.replace(':', '.').split('.')
        owner = [word for word in ('user', 'domain', 'project', 'tenant') if word in last[-1]]
        owner = owner or [word for word in ('user', 'domain', 'project', 'tenant') if word in key]
        nested = target
        target[key] = mine[owner[0]] if owner else 'another'
        # oslo.policy looks into nested targets by the dots of a key.
        parts = key.split('.')
        for part in parts[:-1]:
            nested = nested.setdefault(part, {})
            if not isinstance(nested, dict):
                break
        else:
            if len(parts) > 1:
                nested[parts[-1]] = target[key]
    found = {}
    for rule in rules:
        allowed = []
        for audience, roles in ROLES.items():
            creds = {
                'user_id': 'my-user', 'project_id': 'my-project', 'tenant_id': 'my-project', 'roles': roles,
                'user_domain_id': 'my-domain', 'project_domain_id': 'my-domain', 'is_admin_project': True,
                'is_admin': audience == 'admin', 'user': 'my-user', 'project': 'my-project',
            }
            try:
                if enforcer.enforce(rule.name, target, creds, do_raise=False):
                    allowed.append(audience)
            except policy.InvalidScope:
                pass
            except Exception as error:
                allowed = 'unobserved: %s: %s' % (type(error).__name__, str(error)[:200])
                break
        found[rule.name] = {
            'check': str(rule.check_str),
            'scopes': sorted(rule.scope_types or []),
            'allowed': allowed if isinstance(allowed, list) else None,
            'unobserved': allowed if isinstance(allowed, str) else None,
            'deprecated_for_removal': bool(rule.deprecated_for_removal),
            'operations': operations_of(rule),
        }
    return found


def operations_of(rule):
    listed = []
    for operation in getattr(rule, 'operations', None) or []:
        methods = operation.get('method') or []
        for method in [methods] if isinstance(methods, str) else methods:
            listed.append('%s %s' % (method.upper(), operation.get('path', '')))
    return sorted(set(listed))


# --- configuration options and scripts ---------------------------------------------------------------

class Anything(type):
    """A class with whatever attribute is asked of it."""

    def __getattr__(cls, name):
        if name.startswith('__'):
            raise AttributeError(name)
        return Anything(name, (Exception,), {})

    def __call__(cls, *_args, **_more):
        return cls


class Stub(type(sys)):
    """Stands for a package of a vendor that is not installed; drivers that need it are only looked at
    for their options."""
    __path__ = []

    def __getattr__(self, name):
        if name.startswith('__'):
            raise AttributeError(name)
        return Anything(name, (Exception,), {})


def load_options(entry):
    """The options behind an entry point, with stand-ins for packages that are not installed."""
    for _ in range(STUBS_MAX):
        try:
            return entry.load()()
        except ModuleNotFoundError as error:
            top = (error.name or '').split('.')[0]
            if not top or error.name in sys.modules:
                raise
            sys.modules[error.name] = Stub(error.name)
    raise RuntimeError('more than %d packages are missing' % STUBS_MAX)


def read_options(distribution):
    """Every option that the service's packages offer, with what can be set and its default."""
    found = {}
    for entry in importlib.metadata.distribution(distribution).entry_points:
        if entry.group != 'oslo.config.opts':
            continue
        for group, options in load_options(entry):
            group = getattr(group, 'name', group) or 'DEFAULT'
            for option in options:
                default = option.sample_default if option.sample_default is not None else option.default
                found['%s/%s' % (group, option.name)] = {
                    'type': re.sub(r' at 0x[0-9a-f]+', '', str(option.type))[:300],
                    'default': None if default is None else neutral(str(default))[:300],
                    'deprecated_for_removal': bool(option.deprecated_for_removal),
                    'deprecated_names': sorted(
                        '%s/%s' % (old.group or group, old.name) for old in option.deprecated_opts or []),
                }
    return found


def neutral(text):
    """A default without what only this machine has."""
    for mine, name in ((sys.prefix, '$PREFIX'), (sys.base_prefix, '$BASE'), (socket.getfqdn(), '$HOST'),
                       (socket.gethostname(), '$HOST'), (os.path.expanduser('~'), '$HOME'), (os.getcwd(), '$CWD')):
        if len(mine) > 1:
            text = text.replace(mine, name)
    return text


def read_scripts(distribution):
    return sorted(entry.name for entry in importlib.metadata.distribution(distribution).entry_points
                  if entry.group in ('console_scripts', 'wsgi_scripts'))


def read_common(contract, list_rules, conf):
    """The parts that all services have in the same way, but for options."""
    contract.part('policies', lambda: read_policies(list_rules(), conf))
    contract.part('scripts', lambda: read_scripts(contract.distribution))
