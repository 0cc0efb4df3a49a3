//! The clients' side of the world.

use etcd::raft::Role;

use super::{Event, OPERATIONS_AFTER_HEAL, World};
use crate::client::{Answer, Kind, Operation, PATIENCE};
use crate::fault::Planted;
use crate::machine::Request;
use crate::random::MILLISECOND;

/// Few keys, so that operations meet.
const KEYS: u64 = 4;

impl World {
    /// A client without an operation starts one, at a member that is up.
    pub(super) fn client_calls(&mut self, id: u64) {
        let up = self
            .members
            .values()
            .filter(|member| member.core.is_some() && !member.is_gone);
        let up: Vec<u64> = up.map(|member| member.id).collect();
        let Some(at) = self.random.pick(&up) else {
            self.after(50 * MILLISECOND, 100 * MILLISECOND, Event::ClientCalls(id));
            return;
        };
        let operation_id = self.next_operation;
        self.next_operation += 1;
        let key = self.random.between(0, KEYS);
        let kind = match self.random.between(0, 10) {
            0 => Kind::Delete,
            1..=5 => Kind::Put(operation_id),
            _ => Kind::Get,
        };
        let operation = Operation {
            id: operation_id,
            kind,
            key,
            called: self.now,
            returned: None,
        };
        self.note(
            "call",
            &[id, at, operation_id],
            format_args!("client {id} at {at}: {operation:?}"),
        );
        if let Some(client) = self.clients.get_mut(&id) {
            client.waits_for = Some(operation.clone());
        }
        self.after(
            PATIENCE,
            PATIENCE + 1,
            Event::ClientGivesUp(id, operation_id),
        );
        let request = Event::Request {
            member: at,
            client: id,
            operation,
        };
        self.after(10, MILLISECOND, request);
    }

    /// An operation reaches its member, if that is still up.
    pub(super) fn request(&mut self, at: u64, client: u64, operation: &Operation) {
        let Some(member) = self.members.get_mut(&at) else {
            return;
        };
        let Some(core) = member.core.as_mut() else {
            return;
        };
        let (id, key) = (operation.id, operation.key);
        let value = match operation.kind {
            Kind::Put(value) => Some(value),
            Kind::Delete => None,
            Kind::Get => {
                member.tickets.insert(id, (client, key));
                let status = core.status();
                if self.planted == Some(Planted::SkipReadQuorum) && status.role == Role::Leader {
                    member.reads_due.push((id, status.commit));
                } else {
                    core.read_index(id);
                }
                self.pump(at);
                return;
            }
        };
        member.waiters.insert(id, client);
        member.proposals.push(Request { id, key, value }.encode());
        self.pump(at);
    }

    /// An answer reaches its client, if that still waits.
    pub(super) fn client_hears(&mut self, id: u64, operation_id: u64, answer: Answer) {
        self.note(
            "answer",
            &[id, operation_id],
            format_args!("client {id} {operation_id}: {answer:?}"),
        );
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let Some(operation) = client
            .waits_for
            .take_if(|operation| operation.id == operation_id)
        else {
            return;
        };
        if self.is_healed {
            match answer {
                Answer::Wrote(_) => client.writes_since_heal += 1,
                Answer::Read(_) => client.reads_since_heal += 1,
            }
        }
        self.checks.linearizable.ends(Operation {
            returned: Some((self.now, answer)),
            ..operation
        });
        self.call_again(id);
    }

    pub(super) fn client_gives_up(&mut self, id: u64, operation_id: u64) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let Some(operation) = client
            .waits_for
            .take_if(|operation| operation.id == operation_id)
        else {
            return;
        };
        self.note(
            "give up",
            &[id, operation_id],
            format_args!("client {id} {operation_id}"),
        );
        self.checks.linearizable.ends(operation);
        self.call_again(id);
    }

    fn call_again(&mut self, id: u64) {
        let Some(client) = self.clients.get(&id) else {
            return;
        };
        let is_served = client.reads_since_heal >= OPERATIONS_AFTER_HEAL
            && client.writes_since_heal >= OPERATIONS_AFTER_HEAL;
        if !is_served {
            self.after(0, 100 * MILLISECOND, Event::ClientCalls(id));
        }
    }
}
