//! The databases of a lab: made by the services' own commands once per release, then copied.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{IoContext as _, Result};
use crate::machine::Machine;
use crate::paths;
use crate::progress::{Progress, step};
use crate::record::Record;
use crate::release::Release;

/// Database and its user.
const DATABASES: &[(&str, &str)] = &[
    ("keystone", "keystone"),
    ("glance", "glance"),
    ("placement", "placement"),
    ("nova_api", "nova"),
    ("nova_cell0", "nova"),
    ("nova", "nova"),
    ("neutron", "neutron"),
    ("cinder", "cinder"),
];

/// Changes to the commands below must change this number.
const RECIPE: u32 = 1;

/// Making all schemas takes 40 s on two free cores.
const SYNC_LIMIT: Duration = Duration::from_secs(600);

/// The cells are mapped by templates that every daemon fills from its own configuration, so the
/// schema holds neither address nor password of the lab that made it.
const SYNC: &str = r#"
export OS_NOVA_DISABLE_EVENTLET_PATCHING=false
bin=/opt/openstack/@SERIES@/bin
{
  $bin/keystone-manage db_sync
  $bin/placement-manage db sync
  $bin/glance-manage db_sync
  $bin/cinder-manage db sync
} >/tmp/schema-1.log 2>&1 & first=$!
{
  $bin/neutron-db-manage --config-file /etc/neutron/neutron.conf \
    --config-file /etc/neutron/plugins/ml2/ml2_conf.ini upgrade heads
} >/tmp/schema-2.log 2>&1 & second=$!
{
  $bin/nova-manage api_db sync
  $bin/nova-manage cell_v2 map_cell0 \
    --database_connection '{scheme}://{username}:{password}@{hostname}/nova_cell0?{query}'
  $bin/nova-manage db sync
  $bin/nova-manage cell_v2 create_cell --name cell1 \
    --database_connection '{scheme}://{username}:{password}@{hostname}/{path}?{query}' \
    --transport-url '{scheme}://{username}:{password}@{hostname}:{port}/'
} >/tmp/schema-3.log 2>&1 & third=$!
bad=0
for part in "1 $first" "2 $second" "3 $third"; do
  set -- $part
  if ! wait $2; then cat /tmp/schema-$1.log >&2; bad=1; fi
done
exit $bad
"#;

fn cached(release: Release) -> PathBuf {
    let name = format!("{}-{}-{RECIPE}.sql", release.series, release.key());
    paths::cache_root().join("schemas").join(name)
}

/// Makes databases, users and schemas for a new lab.
pub(crate) fn make(
    infra: Machine<'_>,
    controller: Machine<'_>,
    release: Release,
    progress: &dyn Progress,
) -> Result<()> {
    infra
        .command("making the databases", ["mariadb"])?
        .stdin(databases_sql(infra.record))
        .limit(Duration::from_secs(60))
        .run()?;
    let dump = cached(release);
    let shared = infra.state.shared().join("schema.sql");
    if dump.exists() {
        return step(progress, "copy the schemas", || {
            std::fs::copy(&dump, &shared).on("copying", &dump)?;
            infra.script(
                "copying the schemas",
                "mariadb < /srv/shared/schema.sql && rm /srv/shared/schema.sql",
                Duration::from_secs(180),
            )?;
            Ok(())
        });
    }
    step(progress, &format!("make the schemas of {}", release.series), || {
        controller.wait_booted()?;
        let script = SYNC.replace("@SERIES@", release.series);
        controller.script("making the schemas", &script, SYNC_LIMIT)?;
        let names: Vec<&str> = DATABASES.iter().map(|(name, _)| *name).collect();
        let script = format!(
            "mariadb-dump --databases {} --triggers --routines > /srv/shared/schema.sql",
            names.join(" ")
        );
        infra.script("keeping the schemas", &script, Duration::from_secs(180))?;
        paths::replace(&dump, std::fs::read(&shared).on("reading", &shared)?, 0o600)?;
        std::fs::remove_file(&shared).on("removing", &shared)
    })
}

fn databases_sql(record: &Record) -> String {
    let mut sql = String::new();
    for (name, user) in DATABASES {
        let _ = writeln!(
            sql,
            "CREATE DATABASE IF NOT EXISTS {name} CHARACTER SET utf8mb3;\n\
             GRANT ALL ON {name}.* TO '{user}'@'%' IDENTIFIED BY '{}';",
            record.password
        );
    }
    sql
}
