//! Endpoints from DNS: the SRV records `_etcd-client-ssl._tcp` and `_etcd-client._tcp` of a domain.

use super::Error;
use hickory_resolver::TokioResolver;

/// Looks the endpoints of a domain up, the encrypted ones first. `suffix`: more of the service name.
pub async fn discover_endpoints(domain: &str, suffix: &str) -> Result<Vec<String>, Error> {
    let suffix = if suffix.is_empty() {
        String::new()
    } else {
        format!("-{suffix}")
    };
    let secure = lookup(&format!("_etcd-client-ssl{suffix}._tcp.{domain}"), "https").await;
    let plain = lookup(&format!("_etcd-client{suffix}._tcp.{domain}"), "http").await;
    match (secure, plain) {
        (Err(secure), Err(plain)) => Err(Error::Local(format!(
            "dns lookup errors: {secure} and {plain}"
        ))),
        (secure, plain) => Ok(secure
            .unwrap_or_default()
            .into_iter()
            .chain(plain.unwrap_or_default())
            .collect()),
    }
}

async fn lookup(name: &str, scheme: &str) -> Result<Vec<String>, String> {
    let failed = |why: &dyn std::fmt::Display| format!("lookup {name}: {why}");
    let resolver = TokioResolver::builder_tokio()
        .map_err(|e| failed(&e))?
        .build();
    let records = resolver
        .srv_lookup(format!("{name}."))
        .await
        .map_err(|error| match error.is_no_records_found() {
            true => failed(&"no such host"),
            false => failed(&error),
        })?;
    let mut records: Vec<_> = records.iter().collect();
    records.sort_by_key(|record| (record.priority(), std::cmp::Reverse(record.weight())));
    let endpoint = |host: &str, port: u16| match host.contains(':') {
        true => format!("{scheme}://[{host}]:{port}"),
        false => format!("{scheme}://{host}:{port}"),
    };
    Ok(records
        .iter()
        .map(|r| endpoint(&r.target().to_string(), r.port()))
        .collect())
}
