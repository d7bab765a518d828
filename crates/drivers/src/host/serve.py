# Serves requests of Volutus over standard input and output: one JSON object per line, each
# answered by one line. It ends when its input ends, so nothing stays behind on the host.
# Only the standard library is used, and nothing newer than Python 3.6, because this runs on
# whatever Python the host's system has.
import json
import os
import sys

OPERATIONS = {}


class Refusal(Exception):
    """Something that cannot be answered, said in one sentence."""


def operation(function):
    OPERATIONS[function.__name__] = function
    return function


def serve():
    # Whatever a library prints must not get between the answers.
    answers = os.fdopen(os.dup(1), 'wb')
    os.dup2(2, 1)
    for line in sys.stdin.buffer:
        request = json.loads(line.decode('utf-8'))
        name = request.pop('operation')
        try:
            answer = {'value': OPERATIONS[name](**request)}
        except Refusal as refusal:
            answer = {'error': str(refusal)}
        except Exception as error:
            answer = {'error': '%s: %s' % (type(error).__name__, error)}
        answers.write(json.dumps(answer).encode('utf-8') + b'\n')
        answers.flush()


@operation
def hello():
    return 'hello'
