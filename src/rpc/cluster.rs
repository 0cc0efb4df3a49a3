//! The Cluster service: who the members are. Changes of membership are checked but not served yet.

use tonic::Status;

use super::server::Server;
use super::status;
use super::wire::Context;
use crate::pb::etcdserverpb::{
    MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse,
    MemberPromoteRequest, MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse,
    MemberUpdateRequest, MemberUpdateResponse,
};
use crate::types::MemberId;

impl Server {
    pub(super) async fn member_list(
        &self,
        context: &Context,
        request: MemberListRequest,
    ) -> Result<MemberListResponse, Status> {
        self.admit(context)?;
        if request.linearizable {
            self.node.read_index().await.map_err(status::node)?;
        }
        let view = self.node.view();
        let members = view
            .membership
            .members()
            .map(|member| member.to_wire())
            .collect();
        Ok(MemberListResponse {
            header: self.header_at(0),
            members,
        })
    }

    pub(super) async fn member_add(
        &self,
        context: &Context,
        request: MemberAddRequest,
    ) -> Result<MemberAddResponse, Status> {
        self.admit(context)?;
        if request.peer_ur_ls.is_empty() || !request.peer_ur_ls.iter().all(|url| is_url(url)) {
            return Err(status::invalid_member_urls());
        }
        self.check_peer_urls(&request.peer_ur_ls)?;
        Err(status::not_served("adding members"))
    }

    pub(super) async fn member_remove(
        &self,
        context: &Context,
        request: MemberRemoveRequest,
    ) -> Result<MemberRemoveResponse, Status> {
        self.admit(context)?;
        self.check_member(request.id)?;
        Err(status::not_served("removing members"))
    }

    pub(super) async fn member_update(
        &self,
        context: &Context,
        request: MemberUpdateRequest,
    ) -> Result<MemberUpdateResponse, Status> {
        self.admit(context)?;
        self.check_member(request.id)?;
        // etcd does not check, and stops for good with a member that has none.
        if request.peer_ur_ls.is_empty() || !request.peer_ur_ls.iter().all(|url| is_url(url)) {
            return Err(status::invalid_member_urls());
        }
        self.check_peer_urls(&request.peer_ur_ls)?;
        Err(status::not_served("updating members"))
    }

    pub(super) async fn member_promote(
        &self,
        context: &Context,
        request: MemberPromoteRequest,
    ) -> Result<MemberPromoteResponse, Status> {
        self.admit(context)?;
        if !self.check_member(request.id)?.is_learner {
            return Err(status::member_not_learner());
        }
        Err(status::not_served("promoting members"))
    }

    fn check_member(&self, id: u64) -> Result<crate::membership::Member, Status> {
        let view = self.node.view();
        view.membership
            .member(MemberId(id))
            .cloned()
            .ok_or_else(status::member_not_found)
    }

    fn check_peer_urls(&self, urls: &[String]) -> Result<(), Status> {
        let view = self.node.view();
        let mut used = view
            .membership
            .members()
            .flat_map(|member| &member.peer_urls);
        if used.any(|url| urls.contains(url)) {
            return Err(status::peer_urls_exist());
        }
        Ok(())
    }
}

/// Whether etcd takes a text for a member's URL: a scheme it knows, host and port, and no path.
fn is_url(text: &str) -> bool {
    match text.trim().split_once("://") {
        Some(("unix" | "unixs", _)) => true,
        Some(("http" | "https", rest)) => {
            let authority = rest.split(['?', '#']).next().unwrap_or_default();
            let host = authority
                .rsplit_once('@')
                .map_or(authority, |(_, host)| host);
            let Some((name, port)) = host.rsplit_once(':') else {
                return false;
            };
            let bracketed = name.starts_with('[') && name.ends_with(']');
            let plain = !name.contains([':', '[', ']']);
            (bracketed || plain) && port.bytes().all(|byte| byte.is_ascii_digit())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::is_url;

    #[test]
    fn member_urls_have_scheme_host_and_port_and_no_path() {
        for url in [
            "http://127.0.0.1:2380",
            "https://[::1]:2380",
            " http://h:1 ",
            "unix://x:1",
        ] {
            assert!(is_url(url), "{url}");
        }
        for url in [
            "foo",
            "http://127.0.0.1",
            "http://h:1/path",
            "http://h:1/",
            "ftp://h:1",
        ] {
            assert!(!is_url(url), "{url}");
        }
    }
}
