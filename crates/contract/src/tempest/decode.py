"""Reads the stream of results that stestr writes (subunit, version 2), and prints a line of JSON for each."""
import json
import sys

import subunit
import testtools

# Of a traceback the end says what was wrong.
CHARS_MAX = 4000


def text(details, name):
    return "\n".join(value.as_text() for key, value in sorted(details.items()) if key.startswith(name))


def told(test):
    reason = text(test["details"], "reason") or text(test["details"], "traceback")
    print(json.dumps({"id": test["id"], "status": test["status"], "reason": reason[-CHARS_MAX:]}))


result = testtools.StreamToDict(told)
result.startTestRun()
with open(sys.argv[1], "rb") as stream:
    # What is no packet is what a test printed.
    subunit.ByteStreamToStreamResult(stream, non_subunit_name="stdout").run(result)
result.stopTestRun()
