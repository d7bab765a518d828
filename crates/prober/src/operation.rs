//! What the synthetic user does, in name.

/// How an operation is to be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OperationKind {
    /// A request that changes nothing.
    Read,
    /// A request that makes or deletes something.
    Write,
    /// Not a request: something that was waited for, such as an instance to become ACTIVE.
    Wait,
}

pub(crate) const ISSUE_TOKEN: &str = "issue token";
pub(crate) const ISSUE_OPERATOR_TOKEN: &str = "issue operator token";
pub(crate) const VALIDATE_TOKEN: &str = "validate token";
pub(crate) const LIST_PROJECTS: &str = "list projects";
pub(crate) const LIST_IMAGES: &str = "list images";
pub(crate) const SHOW_IMAGE: &str = "show image";
pub(crate) const CREATE_IMAGE: &str = "create image";
pub(crate) const UPLOAD_IMAGE: &str = "upload image";
pub(crate) const DELETE_IMAGE: &str = "delete image";
pub(crate) const LIST_SERVERS: &str = "list servers";
pub(crate) const LIST_FLAVORS: &str = "list flavors";
pub(crate) const CREATE_SERVER: &str = "create server";
pub(crate) const SHOW_SERVER: &str = "show server";
pub(crate) const DELETE_SERVER: &str = "delete server";
pub(crate) const SHOW_DELETED_SERVER: &str = "show deleted server";
pub(crate) const BOOT_TO_ACTIVE: &str = "boot to active";
pub(crate) const SERVER_TO_GONE: &str = "server to gone";
pub(crate) const LIST_NETWORKS: &str = "list networks";
pub(crate) const LIST_PORTS: &str = "list ports";
pub(crate) const CREATE_PORT: &str = "create port";
pub(crate) const DELETE_PORT: &str = "delete port";
pub(crate) const CREATE_NETWORK: &str = "create network";
pub(crate) const DELETE_NETWORK: &str = "delete network";
pub(crate) const LIST_VOLUMES: &str = "list volumes";
pub(crate) const CREATE_VOLUME: &str = "create volume";
pub(crate) const SHOW_VOLUME: &str = "show volume";
pub(crate) const DELETE_VOLUME: &str = "delete volume";
pub(crate) const SHOW_DELETED_VOLUME: &str = "show deleted volume";
pub(crate) const VOLUME_TO_AVAILABLE: &str = "volume to available";
pub(crate) const VOLUME_TO_GONE: &str = "volume to gone";
pub(crate) const SHOW_VERSIONS: &str = "show versions";
pub(crate) const ALLOCATION_CANDIDATES: &str = "list allocation candidates";
pub(crate) const LIST_RESOURCE_CLASSES: &str = "list resource classes";

impl OperationKind {
    /// The kind of an operation, by its name in samples.
    #[must_use]
    pub fn of(operation: &str) -> Self {
        match operation {
            BOOT_TO_ACTIVE | SERVER_TO_GONE | VOLUME_TO_AVAILABLE | VOLUME_TO_GONE => Self::Wait,
            VALIDATE_TOKEN => Self::Read,
            _ if operation.starts_with("list ") || operation.starts_with("show ") => Self::Read,
            _ => Self::Write,
        }
    }

    /// The kind in the plural, for sentences.
    #[must_use]
    pub fn plural(self) -> &'static str {
        match self {
            Self::Read => "reads",
            Self::Write => "writes",
            Self::Wait => "waits",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_follow_from_names() {
        assert_eq!(OperationKind::of(BOOT_TO_ACTIVE), OperationKind::Wait);
        assert_eq!(OperationKind::of(SHOW_SERVER), OperationKind::Read);
        assert_eq!(OperationKind::of(ALLOCATION_CANDIDATES), OperationKind::Read);
        assert_eq!(OperationKind::of(ISSUE_TOKEN), OperationKind::Write);
    }
}
