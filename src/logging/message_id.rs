//! Identities of lines that the journal's catalog (`systemd/etcd.catalog`) explains.

/// The cluster has another leader.
pub const LEADER_CHANGED: &str = "13158360fa854eaea9147bd8766519e1";
/// The disk is slow to make the log durable.
pub const SLOW_FSYNC: &str = "1de6562e6a604a049697418e4f699f1a";
/// The database is full; writes are refused.
pub const QUOTA_EXCEEDED: &str = "4ad0aa0604714ee9a3a60c99bc5ebb61";
/// Certificates were read again.
pub const CERTIFICATES_RELOADED: &str = "1bb82da1d2114b7d9aa3204f10e1bad2";
/// New certificates cannot be used; the old ones stay.
pub const CERTIFICATES_KEPT: &str = "10c1abceb23444529beac8f02c0c46c1";
/// A certificate runs out soon, or has.
pub const CERTIFICATE_EXPIRES: &str = "67497b3718244343b878260cc8cad751";
/// The configuration is wrong; etcd does not start.
pub const CONFIGURATION_WRONG: &str = "5ec87da170d14361a048cfa64bc924cd";

#[cfg(test)]
mod tests {
    #[test]
    fn every_identity_is_in_the_catalog() {
        let catalog = include_str!("../../systemd/etcd.catalog");
        for id in [
            super::LEADER_CHANGED,
            super::SLOW_FSYNC,
            super::QUOTA_EXCEEDED,
            super::CERTIFICATES_RELOADED,
            super::CERTIFICATES_KEPT,
            super::CERTIFICATE_EXPIRES,
            super::CONFIGURATION_WRONG,
        ] {
            assert!(catalog.contains(&format!("-- {id}")), "{id}");
        }
    }
}
