# Runs by itself on this machine: one JSON document on standard output, and nothing else there.
if __name__ == '__main__':
    answer = os.fdopen(os.dup(1), 'wb')
    os.dup2(2, 1)
    bound()
    try:
        document = {'python': sys.version.split()[0], 'service': extract()}
    except importlib.metadata.PackageNotFoundError:
        document = {'absent': True}
    answer.write(json.dumps(document, sort_keys=True).encode('utf-8'))
    answer.flush()
    # Threads that foreign code started do not keep the answer waiting.
    os._exit(0)
