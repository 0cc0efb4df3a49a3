//! What goes wrong by chance, and the changes of members.

use etcd::raft::{Core, Role};

use super::{Event, World};
use crate::fault::Trouble;
use crate::machine::MemberChange;
use crate::member::Member;
use crate::random::{MILLISECOND, SECOND};

/// Largest cluster a run grows to.
const MEMBERS_MAX: usize = 7;

impl World {
    pub(super) fn trouble(&mut self) {
        if self.is_healed {
            return;
        }
        self.after(
            50 * MILLISECOND,
            self.swarm.trouble_every_max,
            Event::Trouble,
        );
        let Some(trouble) = self.random.pick(&self.swarm.troubles) else {
            return;
        };
        let up = self.members.values().filter(|member| member.core.is_some());
        let up: Vec<u64> = up.map(|member| member.id).collect();
        let Some(victim) = self.random.pick(&up) else {
            return;
        };
        self.note(
            "trouble",
            &[trouble as u64, victim],
            format_args!("{trouble:?} {victim}"),
        );
        match trouble {
            Trouble::Crash => self.crash(victim),
            Trouble::CrashWriting => {
                if let Some(member) = self.members.get_mut(&victim) {
                    member.is_to_crash_writing = true;
                }
            }
            Trouble::CrashAll => up.into_iter().for_each(|id| self.crash(id)),
            Trouble::Split => self.split(&up),
            Trouble::IsolateLeader => self.isolate_leader(&up),
            Trouble::Clog => {
                let Some(other) = self.random.pick(&up) else {
                    return;
                };
                let until = self.now + self.random.between(SECOND / 2, 4 * SECOND);
                self.net.clog(victim, other, until);
            }
            Trouble::Freeze => {
                let until = self.now + self.random.between(SECOND / 5, 4 * SECOND);
                if let Some(member) = self.members.get_mut(&victim) {
                    member.frozen_until = until;
                }
            }
            Trouble::StallDisk => {
                let until = self.now + self.random.between(SECOND / 2, 5 * SECOND);
                if let Some(member) = self.members.get_mut(&victim) {
                    member.disk_stalled_until = until;
                }
            }
            Trouble::Transfer => {
                let Some(to) = self.random.pick(&up) else {
                    return;
                };
                self.with_core(victim, |core| core.transfer_leader(to));
            }
            Trouble::ChangeMembers => self.change_members(victim),
        }
    }

    pub(super) fn crash(&mut self, id: u64) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        if member.core.is_none() {
            return;
        }
        member.disk.crash(&mut self.random);
        member.stop();
        self.summary.crashes += 1;
        self.after(10 * MILLISECOND, 3 * SECOND, Event::Start(id));
    }

    fn split(&mut self, up: &[u64]) {
        self.net.mend();
        let (mut here, mut there) = (Vec::new(), Vec::new());
        for &id in up {
            if self.random.one_in(2) {
                here.push(id)
            } else {
                there.push(id)
            }
        }
        let is_one_way = self.random.one_in(3);
        self.net.split(&here, &there, is_one_way);
        self.after(SECOND / 5, 6 * SECOND, Event::Mend);
    }

    fn isolate_leader(&mut self, up: &[u64]) {
        let Some(leader) = self.leader() else { return };
        let others: Vec<u64> = up.iter().copied().filter(|&id| id != leader).collect();
        let is_one_way = self.random.one_in(4);
        self.net.split(&[leader], &others, is_one_way);
        self.after(SECOND, 6 * SECOND, Event::Mend);
    }

    /// Somebody who leads, or thinks so.
    fn leader(&self) -> Option<u64> {
        self.members.values().find_map(|member| {
            let role = member.core.as_ref()?.soft_state().role;
            (role == Role::Leader).then_some(member.id)
        })
    }

    /// A removed member stops for good, once one that stays knows of the removal durably. Before that its
    /// vote may still be needed: the change is committed by the members of before.
    pub(super) fn leave(&mut self, id: u64) {
        let stays = |member: &&Member| member.machine.removed_at(member.id).is_none();
        let knows = |member: &Member| {
            let known = member
                .disk
                .log
                .hard_state
                .commit
                .max(member.disk.checkpoint.applied);
            member
                .machine
                .removed_at(id)
                .is_some_and(|index| index <= known)
        };
        if !self.members.values().filter(stays).any(knows) {
            self.after(SECOND, SECOND + 1, Event::Leave(id));
            return;
        }
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        if !member.is_gone {
            member.is_gone = true;
            member.stop();
            self.note("leave", &[id], format_args!("{id}"));
        }
    }

    /// Proposes a change at the leader, or now and then at somebody else.
    fn change_members(&mut self, somebody: u64) {
        let Some(leader) = self.leader().and_then(|id| self.members.get(&id)) else {
            return;
        };
        let Some(status) = leader.core.as_ref().map(Core::status) else {
            return;
        };
        let at = if self.random.one_in(4) {
            somebody
        } else {
            leader.id
        };
        let (voters, learners) = (leader.machine.voters(), leader.machine.learners());
        let has_caught_up = |id: &u64| {
            status
                .progress
                .iter()
                .any(|member| member.id == *id && member.matched >= status.commit)
        };
        let ready: Vec<u64> = learners.iter().copied().filter(has_caught_up).collect();
        let change = match (self.random.pick(&ready), self.random.between(0, 3)) {
            (Some(learner), 0 | 1) => MemberChange::AddVoter(learner),
            (None, 0) if voters.len() + learners.len() < MEMBERS_MAX => {
                self.next_member += 1;
                MemberChange::AddLearner(self.next_member - 1)
            }
            _ => {
                let everybody: Vec<u64> = voters.into_iter().chain(learners).collect();
                let Some(one) = self.random.pick(&everybody) else {
                    return;
                };
                MemberChange::Remove(one)
            }
        };
        self.note("propose", &[at], format_args!("{change:?} at {at}"));
        self.with_core(at, |core| {
            // Refused while another is pending: then not.
            let _ = core.propose_conf_change(change.encode());
        });
    }
}
