//! The consumer group's coordinator: who is a member, and which partitions are whose.
//!
//! As in Kafka's consumer protocol (KIP-848). A partition has a new owner only once the former one has given it back or was
//! expelled. A member's epoch rises once it has given back what it must. Offsets are taken only under a member's present
//! epoch.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use taskhost_core::record::TopicPartition;
use tokio::time::Instant;

use crate::net::Process;

/// After so long without a heartbeat a member is expelled.
const SESSION: Duration = Duration::from_secs(6);

/// The group.
#[derive(Debug, Default)]
pub(crate) struct Group {
    epoch: i32,
    members: BTreeMap<Process, Member>,
    /// What there is to be shared.
    pub(crate) partitions: Vec<TopicPartition>,
}

#[derive(Debug)]
struct Member {
    epoch: i32,
    heard: Instant,
    owned: BTreeSet<TopicPartition>,
}

/// What a member is told.
#[derive(Debug)]
pub(crate) struct Told {
    /// Its epoch.
    pub(crate) generation: i32,
    /// What it has to give back.
    pub(crate) revoked: Vec<TopicPartition>,
    /// What is its own from now on.
    pub(crate) assigned: Vec<TopicPartition>,
}

impl Group {
    /// A member says what it has. None if it was a member, and is none any more.
    pub(crate) fn heartbeat(
        &mut self,
        process: Process,
        owned: &[TopicPartition],
        was_member: bool,
    ) -> Option<Told> {
        let now = Instant::now();
        let silent = self.members.iter();
        let silent =
            silent.filter(|(other, member)| **other != process && now - member.heard > SESSION);
        let silent: Vec<Process> = silent.map(|(process, _)| *process).collect();
        silent.into_iter().for_each(|process| self.leave(process));
        if self
            .members
            .get(&process)
            .is_some_and(|member| now - member.heard > SESSION)
        {
            self.leave(process);
        }
        if !self.members.contains_key(&process) {
            if was_member {
                return None;
            }
            self.epoch += 1;
            let member = Member {
                epoch: self.epoch,
                heard: now,
                owned: BTreeSet::new(),
            };
            self.members.insert(process, member);
        }
        let target = self.target(process);
        let taken: BTreeSet<TopicPartition> = self
            .members
            .iter()
            .filter(|(other, _)| **other != process)
            .flat_map(|(_, member)| member.owned.iter().cloned())
            .collect();
        let epoch = self.epoch;
        let member = self.members.get_mut(&process)?;
        member.heard = now;
        let owned: BTreeSet<TopicPartition> = owned.iter().cloned().collect();
        let revoked: Vec<TopicPartition> = owned.difference(&target).cloned().collect();
        let mut assigned = Vec::new();
        if revoked.is_empty() {
            member.epoch = epoch;
            let free = target
                .difference(&owned)
                .filter(|one| !taken.contains(*one));
            assigned = free.cloned().collect();
        }
        member.owned = owned.into_iter().chain(assigned.iter().cloned()).collect();
        Some(Told {
            generation: member.epoch,
            revoked,
            assigned,
        })
    }

    pub(crate) fn leave(&mut self, process: Process) {
        if self.members.remove(&process).is_some() {
            self.epoch += 1;
        }
    }

    /// Whether a member has this epoch.
    pub(crate) fn is_current(&self, process: Process, epoch: i32) -> bool {
        let member = self.members.get(&process);
        member.is_some_and(|member| member.epoch == epoch)
    }

    fn target(&self, process: Process) -> BTreeSet<TopicPartition> {
        let members: Vec<&Process> = self.members.keys().collect();
        let own =
            self.partitions.iter().enumerate().filter(|(number, _)| {
                members.get(number % members.len().max(1)) == Some(&&process)
            });
        own.map(|(_, partition)| partition.clone()).collect()
    }
}
