//! Configuration changes: the two encodings seen as one.

use std::borrow::Cow;

use crate::eraftpb::{
    ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2,
};

/// One step of a configuration change.
pub fn new_conf_change_single(node_id: u64, change_type: ConfChangeType) -> ConfChangeSingle {
    ConfChangeSingle { change_type: change_type as i32, node_id }
}

/// Reads `v1 l2 r3` (voter 1, learner 2, remove 3) as steps.
pub fn parse_conf_change(text: &str) -> Result<Vec<ConfChangeSingle>, String> {
    text.split_ascii_whitespace()
        .map(|token| {
            let change_type = match token.chars().next() {
                Some('v') => ConfChangeType::AddNode,
                Some('l') => ConfChangeType::AddLearnerNode,
                Some('r') => ConfChangeType::RemoveNode,
                _ => return Err(format!("unknown step {token:?}")),
            };
            let id = token[1..].parse().map_err(|e| format!("step {token:?}: {e}"))?;
            Ok(new_conf_change_single(id, change_type))
        })
        .collect()
}

/// Writes steps the way [`parse_conf_change`] reads them.
pub fn stringify_conf_change(steps: &[ConfChangeSingle]) -> String {
    let word = |s: &ConfChangeSingle| match s.get_change_type() {
        ConfChangeType::AddNode => format!("v{}", s.node_id),
        ConfChangeType::AddLearnerNode => format!("l{}", s.node_id),
        ConfChangeType::RemoveNode => format!("r{}", s.node_id),
    };
    steps.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// Either encoding of a configuration change.
pub trait ConfChangeI {
    /// As the second encoding.
    fn into_v2(self) -> ConfChangeV2;
    /// As the second encoding, borrowed where it is one.
    fn as_v2(&self) -> Cow<'_, ConfChangeV2>;
    /// As the first encoding, where it is one.
    fn as_v1(&self) -> Option<&ConfChange>;
}

impl ConfChangeI for ConfChange {
    fn into_v2(self) -> ConfChangeV2 {
        ConfChangeV2 {
            transition: 0,
            changes: vec![new_conf_change_single(self.node_id, self.get_change_type())],
            context: self.context,
        }
    }

    fn as_v2(&self) -> Cow<'_, ConfChangeV2> {
        Cow::Owned(self.clone().into_v2())
    }

    fn as_v1(&self) -> Option<&ConfChange> {
        Some(self)
    }
}

impl ConfChangeI for ConfChangeV2 {
    fn into_v2(self) -> ConfChangeV2 {
        self
    }

    fn as_v2(&self) -> Cow<'_, ConfChangeV2> {
        Cow::Borrowed(self)
    }

    fn as_v1(&self) -> Option<&ConfChange> {
        None
    }
}

impl ConfChangeV2 {
    /// `Some(auto_leave)` when the change goes through a joint configuration.
    pub fn enter_joint(&self) -> Option<bool> {
        match self.get_transition() {
            ConfChangeTransition::Auto if self.changes.len() <= 1 => None,
            ConfChangeTransition::Auto | ConfChangeTransition::Implicit => Some(true),
            ConfChangeTransition::Explicit => Some(false),
        }
    }

    /// Whether the change leaves a joint configuration: it carries nothing but, perhaps, a context.
    pub fn leave_joint(&self) -> bool {
        self.get_transition() == ConfChangeTransition::Auto && self.changes.is_empty()
    }
}
