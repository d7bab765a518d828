# Answers one question over a conversation with a host; see the programs of the drivers.
@operation
def contract():
    bound()
    try:
        return {'python': sys.version.split()[0], 'service': extract()}
    except importlib.metadata.PackageNotFoundError:
        return {'absent': True}


serve()
