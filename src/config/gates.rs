//! Feature gates: the switches of `--feature-gates`.

use std::collections::BTreeMap;
use std::fmt;

use super::value::{parse_bool, quote};

/// One gate of etcd 3.7.
#[derive(Clone, Copy, Debug)]
pub struct Gate {
    /// Its name.
    pub name: &'static str,
    /// Alpha gates follow `AllAlpha`, beta gates `AllBeta`.
    pub stage: Stage,
    /// On unless switched.
    pub default: bool,
    /// What it does.
    pub meaning: &'static str,
    /// Whether this release acts on it.
    pub served: bool,
}

/// How settled a gate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Off by default, may vanish.
    Alpha,
    /// On by default.
    Beta,
}

const fn gate(name: &'static str, stage: Stage, served: bool, meaning: &'static str) -> Gate {
    Gate {
        name,
        stage,
        default: matches!(stage, Stage::Beta),
        meaning,
        served,
    }
}

/// Sets every alpha gate that is not named itself.
const ALL_ALPHA: &str = "AllAlpha";
/// Sets every beta gate that is not named itself.
const ALL_BETA: &str = "AllBeta";

/// Every gate but the two collective ones, sorted by name.
pub const GATES: &[Gate] = &[
    gate(
        "CompactHashCheck",
        Stage::Alpha,
        false,
        "the leader compares hashes of compactions",
    ),
    gate(
        "FastLeaseKeepAlive",
        Stage::Beta,
        true,
        "renew leases without waiting for apply",
    ),
    gate(
        "InitialCorruptCheck",
        Stage::Alpha,
        false,
        "compare hashes with peers before serving",
    ),
    gate(
        "LeaseCheckpoint",
        Stage::Alpha,
        true,
        "replicate the time leases have left",
    ),
    gate(
        "LeaseCheckpointPersist",
        Stage::Alpha,
        true,
        "store the time leases have left",
    ),
    gate(
        "PriorityRequest",
        Stage::Alpha,
        true,
        "lease revocation passes an overloaded queue",
    ),
    gate(
        "SetMemberLocalAddr",
        Stage::Alpha,
        false,
        "dial peers from the advertised address",
    ),
    gate(
        "StopGRPCServiceOnDefrag",
        Stage::Alpha,
        true,
        "report NOT_SERVING while defragmenting",
    ),
    gate(
        "TxnModeWriteWithSharedBuffer",
        Stage::Beta,
        true,
        "no effect here, kept for etcd's sake",
    ),
];

impl Stage {
    /// As metrics tell it.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Alpha => "ALPHA",
            Stage::Beta => "BETA",
        }
    }
}

/// Which gates have been switched, and so which are on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeatureGates {
    switched: BTreeMap<String, bool>,
}

impl FeatureGates {
    /// Whether `name` is on. An unknown name is off.
    pub fn enabled(&self, name: &str) -> bool {
        let default = || GATES.iter().any(|gate| gate.name == name && gate.default);
        self.switched.get(name).copied().unwrap_or_else(default)
    }

    /// These gates with the switches of `text` (`A=true,B=false`) on top.
    ///
    /// etcd walks its switches in random order, so a collective gate and a gate it covers may end
    /// either way there; here a gate that is named keeps its own value.
    pub fn with(&self, text: &str) -> Result<Self, String> {
        let mut named = BTreeMap::new();
        for pair in text.split(',').filter(|pair| !pair.is_empty()) {
            let (name, value) = match pair.split_once('=') {
                Some((name, value)) => (name.trim(), value.trim()),
                None => return Err(format!("missing bool value for {}", pair.trim())),
            };
            let value = parse_bool(value).ok_or_else(|| {
                let syntax = format!(
                    "strconv.ParseBool: parsing {}: invalid syntax",
                    quote(value)
                );
                format!("invalid value of {name}={value}, err: {syntax}")
            })?;
            named.insert(name.to_owned(), value);
        }
        let known = |name: &str| GATES.iter().any(|gate| gate.name == name);
        let collective = [(ALL_ALPHA, Stage::Alpha), (ALL_BETA, Stage::Beta)];
        for name in named.keys() {
            if !known(name) && !collective.iter().any(|(all, _)| all == name) {
                return Err(format!("unrecognized feature gate: {name}"));
            }
        }
        let mut switched = self.switched.clone();
        switched.extend(named);
        for (all, stage) in collective {
            let Some(value) = switched.get(all).copied() else {
                continue;
            };
            for gate in GATES.iter().filter(|gate| gate.stage == stage) {
                switched.entry(gate.name.to_owned()).or_insert(value);
            }
        }
        Ok(Self { switched })
    }

    /// Every gate with its stage and whether it is on, the collective ones first.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, Stage, bool)> + '_ {
        let collective = [(ALL_ALPHA, Stage::Alpha), (ALL_BETA, Stage::Beta)];
        let gates = GATES.iter().map(|gate| (gate.name, gate.stage));
        let all = collective.into_iter().chain(gates);
        all.map(|(name, stage)| (name, stage, self.enabled(name)))
    }

    /// Gates that are switched on although this release does not act on them yet.
    pub fn on_but_not_served(&self) -> impl Iterator<Item = &'static Gate> {
        let on = |gate: &&Gate| !gate.served && self.enabled(gate.name);
        GATES.iter().filter(on).collect::<Vec<_>>().into_iter()
    }
}

impl fmt::Display for FeatureGates {
    /// The switched gates, sorted: `A=true,B=false`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, value)) in self.switched.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{name}={value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_and_collective_gates() {
        let none = FeatureGates::default();
        assert!(none.enabled("FastLeaseKeepAlive") && !none.enabled("LeaseCheckpoint"));
        let gates = none
            .with("LeaseCheckpoint=true, FastLeaseKeepAlive=0")
            .unwrap();
        assert!(gates.enabled("LeaseCheckpoint") && !gates.enabled("FastLeaseKeepAlive"));
        assert_eq!(
            gates.to_string(),
            "FastLeaseKeepAlive=false,LeaseCheckpoint=true"
        );
        let all = none.with("AllAlpha=true,PriorityRequest=false").unwrap();
        assert!(all.enabled("SetMemberLocalAddr") && !all.enabled("PriorityRequest"));
    }

    #[test]
    fn errors() {
        let error = |text| FeatureGates::default().with(text).unwrap_err();
        assert_eq!(error("X=true"), "unrecognized feature gate: X");
        assert_eq!(error("X"), "missing bool value for X");
        assert_eq!(
            error("X=y"),
            "invalid value of X=y, err: strconv.ParseBool: parsing \"y\": invalid syntax"
        );
    }
}
