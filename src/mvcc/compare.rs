//! The conditions of a transaction.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use super::MvccError;
use super::leaf::Found;
use super::range::KeyRange;
use super::read::Reader;
use super::record::fields;
use crate::pb::etcdserverpb::Compare;
use crate::pb::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};

/// Whether all conditions hold in a state.
pub(super) fn hold(reader: &Reader<'_>, compares: &[Compare]) -> Result<bool, MvccError> {
    for compare in compares {
        if !holds(reader, compare)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a condition holds for every key of its range. A range without keys is a key that is missing: its
/// numbers are 0, and no condition on its value holds.
fn holds(reader: &Reader<'_>, compare: &Compare) -> Result<bool, MvccError> {
    let range = KeyRange::new(&compare.key, &compare.range_end);
    let mut missing = true;
    let broken = reader.tree.walk(&range, reader.revision, 0, |found| {
        missing = false;
        match key_holds(reader, compare, &found) {
            Ok(true) => ControlFlow::Continue(()),
            other => ControlFlow::Break(other),
        }
    });
    match broken {
        ControlFlow::Break(result) => result,
        ControlFlow::Continue(()) if !missing => Ok(true),
        ControlFlow::Continue(()) => Ok(missing_holds(compare)),
    }
}

fn key_holds(reader: &Reader<'_>, compare: &Compare, found: &Found<'_>) -> Result<bool, MvccError> {
    let value = match target(compare) {
        Some(CompareTarget::Value) => {
            let record = reader.record(found.revision, reader.revision)?;
            let wanted = match &compare.target_union {
                Some(TargetUnion::Value(value)) => value.as_ref(),
                _ => &[],
            };
            fields(found.revision, &record)?.value.as_ref().cmp(wanted)
        }
        _ => number(compare, found),
    };
    Ok(result(compare, value))
}

/// What is compared, for numbers. At the current revision the index knows them all.
fn number(compare: &Compare, found: &Found<'_>) -> Ordering {
    let head = |field: fn(&super::leaf::Head) -> i64| found.head.as_ref().map_or(0, field);
    let wanted = wanted_number(compare);
    match target(compare) {
        Some(CompareTarget::Version) => head(|head| head.version).cmp(&wanted),
        Some(CompareTarget::Create) => head(|head| head.create_revision).cmp(&wanted),
        Some(CompareTarget::Mod) => found.revision.main.cmp(&wanted),
        Some(CompareTarget::Lease) => head(|head| head.lease).cmp(&wanted),
        Some(CompareTarget::Value) | None => Ordering::Equal,
    }
}

fn missing_holds(compare: &Compare) -> bool {
    match target(compare) {
        Some(CompareTarget::Value) => false,
        Some(_) => result(compare, 0.cmp(&wanted_number(compare))),
        None => result(compare, Ordering::Equal),
    }
}

/// The number to compare with; one of another kind does not count.
fn wanted_number(compare: &Compare) -> i64 {
    match (target(compare), &compare.target_union) {
        (Some(CompareTarget::Version), Some(TargetUnion::Version(number)))
        | (Some(CompareTarget::Create), Some(TargetUnion::CreateRevision(number)))
        | (Some(CompareTarget::Mod), Some(TargetUnion::ModRevision(number)))
        | (Some(CompareTarget::Lease), Some(TargetUnion::Lease(number))) => *number,
        _ => 0,
    }
}

fn target(compare: &Compare) -> Option<CompareTarget> {
    CompareTarget::try_from(compare.target).ok()
}

fn result(compare: &Compare, order: Ordering) -> bool {
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => order.is_eq(),
        Ok(CompareResult::NotEqual) => order.is_ne(),
        Ok(CompareResult::Greater) => order.is_gt(),
        Ok(CompareResult::Less) => order.is_lt(),
        Err(_) => true,
    }
}
