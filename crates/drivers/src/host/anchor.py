# Keeps or releases service records at an old version, through the objects of the service itself:
# it is the service's own code that writes, under its own guards, with its own configuration. Joined
# behind REQUEST; runs in the Python of a release. The last line of its output is JSON.
import importlib
import os
import sys


def finish(result, **more):
    print(json.dumps(dict(more, result=result)), flush=True)
    # Without this a thread that the service's libraries started could keep the process alive.
    os._exit(0 if result in ('done', 'unchanged') else 1)


def load(path, config_files):
    """The record's class, its package's objects and contexts, configured as its daemons are.
    Source: nova/cmd/conductor.py."""
    module, _, name = path.rpartition('.')
    package = module.split('.')[0]
    objects = importlib.import_module(package + '.objects')
    objects.register_all()
    argv = [package]
    for one in config_files:
        argv += ['--config-file', one]
    importlib.import_module(package + '.config').parse_args(argv)
    context = importlib.import_module(package + '.context')
    return getattr(importlib.import_module(module), name), objects, context


def places(objects, context):
    """Contexts of every database that may hold records: the one that this configuration names,
    and those of all cells. Nova's API, scheduler and conductor of the API level write into the
    former, cells' conductors and computes into theirs; often they are the same."""
    admin = context.get_admin_context()
    yield admin
    if hasattr(objects, 'CellMappingList'):
        for mapping in objects.CellMappingList.get_all(admin):
            with context.target_cell(admin, mapping) as cell:
                yield cell


def split(objects, cell, binary, host):
    records = list(objects.ServiceList.get_by_binary(cell, binary, include_disabled=True))
    own = [record for record in records if record.host == host]
    return own, [record for record in records if record.host != host]


def check(service, objects, context, binaries, host, version):
    """Looks whether all of it can be kept before any of it is written."""
    for cell in places(objects, context):
        for binary in binaries:
            own, others = split(objects, cell, binary, host)
            for record in own:
                if record.version != version:
                    finish('refused', why='a record of %s at %s is kept at version %s already, not '
                           'at %s: it is of another run, which has to be finalized or rolled back '
                           'first' % (binary, host, record.version, version))
            if others and not own:
                if service(cell).version != version:
                    finish('refused', why='this release writes records of version %s, not of %s' % (
                        service(cell).version, version))
                lowest = service.get_minimum_version(cell, binary)
                if lowest > version:
                    finish('refused', why='every record of %s is at version %s or newer already, so '
                           'that a record of version %s is not accepted any more' % (
                               binary, lowest, version))


def keep(service, objects, context, binaries, host, version, reason):
    check(service, objects, context, binaries, host, version)
    made, found = 0, set()
    for cell in places(objects, context):
        for binary in binaries:
            own, others = split(objects, cell, binary, host)
            if others and not own:
                # A topic of its own, so that nothing is ever sent to it or counted for it.
                record = service(cell, host=host, binary=binary, topic='volutus-' + binary,
                                 report_count=0, disabled=True, disabled_reason=reason)
                record.create()
                made += 1
                own = [record]
            found.update((record.uuid, binary) for record in own)
    if not found:
        finish('refused', why='there is no record of any of %s beside which one could be kept: does '
               'this configuration name the right databases?' % ', '.join(binaries))
    kept = sorted({binary for _, binary in found})
    finish('done' if made else 'unchanged', binaries=kept, count=len(found))


def release(objects, context, binaries, host):
    gone = 0
    for cell in places(objects, context):
        for binary in binaries:
            for record in split(objects, cell, binary, host)[0]:
                record.destroy()
                gone += 1
    if hasattr(objects, 'HostMapping'):
        # `nova-manage cell_v2 discover_hosts --by-service` maps whatever has a record.
        try:
            objects.HostMapping.get_by_host(context.get_admin_context(), host).destroy()
        except Exception as error:
            if type(error).__name__ != 'HostMappingNotFound':
                raise
    finish('done' if gone else 'unchanged', binaries=[], count=gone)


def main(do, object, config_files, binaries, host, version, reason):
    service, objects, context = load(object, config_files)
    if do == 'keep':
        keep(service, objects, context, binaries, host, version, reason)
    else:
        release(objects, context, binaries, host)


try:
    main(**REQUEST)
except Exception as error:
    import traceback
    traceback.print_exc(file=sys.stdout)
    finish('failed', why='%s: %s' % (type(error).__name__, error))
