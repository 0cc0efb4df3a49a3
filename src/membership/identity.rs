//! Ids by etcd's formula, so that members of both implementations agree on them.

use sha1::{Digest, Sha1};

use crate::types::{ClusterId, MemberId};

/// The id of a member named in the initial cluster: from its peer URLs and the cluster token.
pub fn member_id(peer_urls: &[String], token: &str) -> MemberId {
    let mut urls: Vec<_> = peer_urls.iter().map(String::as_str).collect();
    urls.sort_unstable();
    let mut hash = Sha1::new();
    for url in urls {
        hash.update(url);
    }
    hash.update(token);
    MemberId(first_eight_bytes(hash))
}

/// The id of the cluster these members found together.
pub fn cluster_id(members: impl IntoIterator<Item = MemberId>) -> ClusterId {
    let mut ids: Vec<_> = members.into_iter().collect();
    ids.sort_unstable();
    let mut hash = Sha1::new();
    for id in ids {
        hash.update(id.0.to_be_bytes());
    }
    ClusterId(first_eight_bytes(hash))
}

fn first_eight_bytes(hash: Sha1) -> u64 {
    let digest = hash.finalize();
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_etcd_gives() {
        for (url, token, member, cluster) in [
            (
                "http://localhost:2380",
                "etcd-cluster",
                "8e9e05c52164694d",
                "cdf818194e3a8c32",
            ),
            (
                "https://localhost:20001",
                "new",
                "a8f3458387986d",
                "34c21a2d427db393",
            ),
        ] {
            let id = member_id(&[url.to_owned()], token);
            assert_eq!(id.to_string(), member);
            assert_eq!(cluster_id([id]).to_string(), cluster);
        }
    }
}
