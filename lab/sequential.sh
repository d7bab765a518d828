#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The plain rolling upgrade of a lab: one step after another, each with its drain and its proof.
# It is what a careful operator would script by hand, and the baseline that Volutus is measured
# against. It does not finalize (no contraction of schemas, no online data migrations).
#
#   sequential.sh LAB SERIES        for example: sequential.sh lab 2026.1
#
# Needs root or the right to read the lab's folder, ssh, curl and python3 on the machine.
# Prints one line per step and the total at the end; ends with 1 at the first step without proof.
set -u -o pipefail

[ $# = 2 ] || { echo "usage: $0 LAB SERIES" >&2; exit 2; }
lab=${VOLUTUS_LAB_STATE:-/var/lib/volutus-lab}/$1 series=$2
[ -e "$lab/cloud.toml" ] || { echo "$0: there is no lab in $lab" >&2; exit 2; }

control=$(mktemp -d) || exit 1
trap 'for host in $infra $controllers $computes; do
        ssh -F "$lab/ssh_config" -o ControlPath="$control/%h" -O exit "$host" 2>/dev/null
      done; rm -rf "$control"' EXIT

# One connection per host is kept open, so that the baseline does not pay for ssh's handshakes.
on() { local host=$1; shift
  timeout 400 ssh -n -F "$lab/ssh_config" -o BatchMode=yes -o ControlMaster=auto \
    -o ControlPath="$control/%h" -o ControlPersist=600 "$host" "$@"; }

hosts() { python3 - "$lab/cloud.toml" "$1" "${2:-name}" <<'PY'
import sys, tomllib
with open(sys.argv[1], 'rb') as stream:
    cloud = tomllib.load(stream)
for host in cloud['host']:
    if (sys.argv[2] in host['roles']) if sys.argv[2] else not host['roles']:
        print(host[sys.argv[3]], end=' ')
PY
}
infra=$(hosts '') infra=${infra% } controllers=$(hosts controller) computes=$(hosts compute)
first=${controllers%% *}
declare -A addresses
read -ra names <<<"$infra $controllers $computes"
read -ra numbers <<<"$(hosts '' address) $(hosts controller address) $(hosts compute address)"
for index in "${!names[@]}"; do addresses[${names[index]}]=${numbers[index]}; done
address() { echo "${addresses[$1]}"; }
server=$(address "$infra")
bin=/opt/openstack/$series/bin
neutron_files='--config-file /etc/neutron/neutron.conf --config-file /etc/neutron/plugins/ml2/ml2_conf.ini'

began=$(date +%s.%N)
since() { python3 -c "import sys, time; print('%.1f' % (time.time() - float(sys.argv[1])))" "$1"; }
say() { echo "$(date -u +%TZ) $*"; }
stop() { say "STOPPED: $*"; exit 1; }

# until SECONDS COMMAND...: repeats the command until it succeeds.
until_true() { local end=$((SECONDS + $1)); shift
  until "$@"; do [ $SECONDS -lt $end ] || return 1; sleep 0.3; done; }

balancer() { on "$infra" "echo '$1' | socat -t 5 - UNIX-CONNECT:/run/haproxy/admin.sock"; }
column() { balancer 'show stat' | awk -F, -v b="$1" -v s="$2" -v c="$3" '$1==b && $2==s {print $c}'; }
no_sessions() { [ "$(column "$1" "$2" 5)" = 0 ]; }
is_up() { [ "$(column "$1" "$2" 18)" = UP ]; }
answers() { case $(curl -s -m 5 -o /dev/null -w '%{http_code}' "$1") in 2*|3*) true;; *) false;; esac; }
sql() { on "$infra" "mariadb -N -e \"$1\""; }

switch() { on "$1" "ln -sfn /opt/openstack/$series /opt/openstack/current/$2"; }

# runs_new HOST KIND: the running process has mapped files of the new release and of no other.
runs_new() { [ "$(on "$1" "pid=\$(systemctl show -p MainPID --value $2) && \
  grep -oh '/srv/releases/[^/]*' /proc/\$pid/maps | sort -u")" = "/srv/releases/$series" ]; }

database() { local t; t=$(date +%s.%N)
  on "$first" "$bin/$*" >"$control/out" 2>&1 || { tail -n 20 "$control/out"; stop "$*"; }
  say "schema: $* in $(since "$t") s"; }

# A warning is exit code 1, a failure 2; a check that crashes is a finding, not a verdict.
check() { local code
  on "$first" "$bin/$*" >"$control/out" 2>&1; code=$?
  [ $code != 2 ] || { tail -n 20 "$control/out"; stop "$* found a failure"; }
  say "check: $* ended with $code"; }

api() { local kind=$1 backend=$2 port=$3 host t
  for host in $controllers; do
    t=$(date +%s.%N)
    balancer "set server $backend/$host state drain" >/dev/null
    until_true 60 no_sessions "$backend" "$host" || stop "$kind on $host does not drain"
    switch "$host" "$kind"
    on "$host" "systemctl restart $kind" || stop "$kind on $host does not restart"
    until_true 90 answers "http://$(address "$host"):$port/" || stop "$kind on $host does not answer"
    until_true 30 runs_new "$host" "$kind" || stop "$kind on $host does not run $series"
    balancer "set server $backend/$host state ready" >/dev/null
    until_true 60 is_up "$backend" "$host" || stop "$kind on $host does not come up"
    say "$kind on $host in $(since "$t") s"
  done; }

# reported DATABASE HOST BINARY MARK VERSION: a record of the service was written after the mark.
reported() { [ "$(sql "SELECT COUNT(*) FROM $1.services WHERE deleted = 0 AND \\\`binary\\\` = '$3' \
  AND (host = '$2' OR host LIKE '$2@%') AND updated_at > '$4' $5")" -ge 1 ] 2>/dev/null; }
alive() { on "$1" "systemctl is-active --quiet $2 && test \$(systemctl show -p NRestarts --value $2) = 0"; }

agent() { local kind=$1 host t mark
  for host in $controllers; do
    t=$(date +%s.%N)
    switch "$host" "$kind"
    on "$host" "systemctl reset-failed $kind 2>/dev/null; systemctl restart $kind" ||
      stop "$kind on $host does not restart"
    mark=$(sql 'SELECT UTC_TIMESTAMP()')
    case $kind in
      nova-*) until_true 90 reported nova "$host" "$kind" "$mark" "AND version = $version" ;;
      cinder-*) until_true 90 reported cinder "$host" "$kind" "$mark" '' ;;
      # These keep no record: they have to survive their start.
      *) until_true 60 runs_new "$host" "$kind" && sleep 3 && alive "$host" "$kind" ;;
    esac || stop "$kind on $host does not prove itself"
    until_true 30 runs_new "$host" "$kind" || stop "$kind on $host does not run $series"
    say "$kind on $host in $(since "$t") s"
  done; }

token() { python3 - "$lab/clouds.yaml" "http://$server:5000/v3/auth/tokens" <<'PY'
import json, re, sys, urllib.request
password = re.search(r'password: "(.*)"', open(sys.argv[1]).read()).group(1)
domain = {'name': 'Default'}
body = {'auth': {
    'identity': {'methods': ['password'], 'password': {
        'user': {'name': 'admin', 'domain': domain, 'password': password}}},
    'scope': {'project': {'name': 'admin', 'domain': domain}}}}
request = urllib.request.Request(
    sys.argv[2], json.dumps(body).encode(), {'Content-Type': 'application/json'})
print(urllib.request.urlopen(request, timeout=30).headers['X-Subject-Token'])
PY
}
nova() { curl -s -m 30 -H "X-Auth-Token: $token" -H 'OpenStack-API-Version: compute 2.53' \
  -H 'Content-Type: application/json' "$@"; }
set_compute() { [ "$(nova -o /dev/null -w '%{http_code}' -X PUT -d "{\"status\":\"$2\"}" \
  "http://$server:8774/v2.1/os-services/$1")" = 200 ]; }
quiet() { [ "$(sql "SELECT COUNT(*) FROM nova.instances WHERE deleted = 0 AND host = '$1' \
  AND (task_state IS NOT NULL OR vm_state = 'building')")" = 0 ]; }
# report_count is written by the daemon itself: it advances only while the daemon works.
advanced() { local now
  now=$(sql "SELECT report_count FROM nova.services WHERE deleted = 0 AND host = '$1' AND \
    \\\`binary\\\` = 'nova-compute'")
  [ "${now:-0}" -gt "$2" ]; }

compute() { local host=$1 t mark before id
  t=$(date +%s.%N) token=$(token) || stop "no token"
  id=$(nova "http://$server:8774/v2.1/os-services?binary=nova-compute&host=$host" |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["services"][0]["id"])') ||
    stop "no service record of $host"
  set_compute "$id" disabled || stop "$host cannot be disabled"
  until_true 120 quiet "$host" || stop "instances on $host do not come to rest"
  switch "$host" nova-compute
  on "$host" 'systemctl restart nova-compute' || stop "nova-compute on $host does not restart"
  mark=$(sql 'SELECT UTC_TIMESTAMP()')
  until_true 120 reported nova "$host" nova-compute "$mark" "AND version = $version" ||
    stop "nova-compute on $host does not report version $version"
  before=$(sql "SELECT report_count FROM nova.services WHERE deleted = 0 AND host = '$host' AND \
    \\\`binary\\\` = 'nova-compute'")
  until_true 60 advanced "$host" "$before" || stop "nova-compute on $host does not go on reporting"
  runs_new "$host" nova-compute || stop "nova-compute on $host does not run $series"
  set_compute "$id" enabled || stop "$host cannot be enabled"
  say "nova-compute on $host in $(since "$t") s"; }

for host in $controllers $computes; do
  on "$host" "test -d /srv/releases/$series && ln -sfn /srv/releases/$series /opt/openstack/$series" ||
    stop "the release $series is not in the store of $host"
done
version=$(on "$first" "$bin/python3 -c 'from nova.objects import service; \
  print(service.SERVICE_VERSION)' 2>/dev/null") || stop "no service version in $series"
say "staged $series (nova service version $version)"
for service in keystone placement glance cinder nova; do check $service-status upgrade check; done
check neutron-status $neutron_files upgrade check

database keystone-manage db_sync --expand
api keystone-api keystone 5000
database glance-manage db expand
api glance-api glance 9292
database placement-manage db sync
api placement-api placement 8778
database cinder-manage db sync
agent cinder-scheduler
agent cinder-volume
api cinder-api cinder 8776
database neutron-db-manage $neutron_files upgrade --expand
api neutron-api neutron 9696
agent neutron-rpc-server
agent neutron-periodic-workers
database nova-manage api_db sync
database nova-manage db sync
agent nova-conductor
agent nova-scheduler
api nova-api nova 8774
api nova-metadata nova-metadata 8775
for host in $computes; do compute "$host"; done
say "upgraded to $series in $(since "$began") s"
