//! Deletes what probers made and did not delete themselves.

use std::time::Duration;

use tokio::time::Instant;
use volutus_openstack::compute::ServerFilter;
use volutus_openstack::network::PortFilter;
use volutus_openstack::{Client, Error};

use crate::naming::is_own;

/// How often it is looked whether what was deleted is gone. Deleting again what is still there
/// does no harm and helps where the first deletion was lost.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// What is left of probers in a project, one line each.
async fn remaining(user: &Client, volumes: bool, delete: bool) -> Result<Vec<String>, Error> {
    let mut left: Vec<String> = Vec::new();
    let project = user.token().await?.project_id.clone().unwrap_or_default();
    for server in user.compute().servers(&ServerFilter::default()).await? {
        // nova lists an instance for a moment longer after it is gone.
        let gone = server.status == "DELETED";
        if is_own(&server.name) && server.tenant_id == project && !gone {
            if delete {
                user.compute().delete_server(&server.id).await?;
            }
            left.push(format!("instance {} ({}, {})", server.name, server.id, server.status));
        }
    }
    let filter = PortFilter { project_id: Some(project.clone()), ..PortFilter::default() };
    for port in user.network().ports(&filter).await? {
        if is_own(&port.name) && port.project_id == project {
            if delete {
                user.network().delete_port(&port.id).await?;
            }
            left.push(format!("port {} ({})", port.name, port.id));
        }
    }
    for network in user.network().networks(None).await? {
        if is_own(&network.name) && network.project_id == project {
            if delete {
                user.network().delete_network(&network.id).await?;
            }
            left.push(format!("network {} ({})", network.name, network.id));
        }
    }
    for image in user.image().images_of(&project).await? {
        let name = image.name.unwrap_or_default();
        if is_own(&name) {
            if delete {
                user.image().delete_image(&image.id).await?;
            }
            left.push(format!("image {name} ({})", image.id));
        }
    }
    if volumes {
        for volume in user.volume().volumes().await? {
            let name = volume.name.unwrap_or_default();
            if is_own(&name) {
                // cinder refuses to delete a volume that is being created or deleted already.
                if delete && matches!(volume.status.as_str(), "available" | "error") {
                    user.volume().delete_volume(&volume.id).await?;
                }
                left.push(format!("volume {name} ({}, {})", volume.id, volume.status));
            }
        }
    }
    if delete {
        left.extend(user.sweep_throwaways(None).await?);
    }
    Ok(left)
}

/// Deletes what is left of probers in the user's project and waits until it is gone, for at
/// most `bound`. Hands back what it found at first, and what is still there, one line each.
pub(crate) async fn sweep(user: &Client, volumes: bool, bound: Duration) -> (Vec<String>, Vec<String>) {
    let end = Instant::now() + bound;
    let mut found: Option<Vec<String>> = None;
    loop {
        let left = match tokio::time::timeout_at(end, remaining(user, volumes, true)).await {
            Ok(Ok(left)) => left,
            Ok(Err(error)) => vec![format!("unknown, because it could not be looked at: {error}")],
            Err(_) => vec![format!("unknown, because looking took over {} s", bound.as_secs())],
        };
        let first = found.get_or_insert_with(|| left.clone());
        if left.is_empty() || Instant::now() + LOOK_AGAIN >= end {
            return (std::mem::take(first), left);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
