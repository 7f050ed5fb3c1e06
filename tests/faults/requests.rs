//! Connections that break while a write is sent or answered.

use crate::proxy::{Fault, Rule};
use crate::work::judge_all;

/// One fault at one of the first writes: with some, the server had stored the rows.
fn each(faults: &[Fault], skips: &[usize]) -> Vec<(String, Vec<Rule>)> {
    let mut all = Vec::new();
    for fault in faults {
        for &skip in skips {
            let rule = Rule { skip, ..Rule::once("/write?", fault.clone()) };
            all.push((format!("{fault:?} at write {skip}"), vec![rule]));
        }
    }
    all
}

#[test]
fn a_connection_that_is_reset_before_or_inside_a_request_costs_nothing() {
    let faults = [
        Fault::Before,
        Fault::InRequest(1),
        Fault::InRequest(70),
        Fault::InBody(0),
        Fault::InBody(1),
        Fault::InBody(1_000),
        Fault::Unanswered,
    ];
    judge_all(each(&faults, &[0, 2]));
}

#[test]
fn an_answer_that_is_lost_is_not_taken_for_one_whatever_was_stored() {
    let whole = each(&[Fault::Reply(0)], &[0, 1, 2, 3, 4]);
    let parts = [Fault::Reply(1), Fault::Reply(16), Fault::Reply(60), Fault::ReplyBody(5)];
    judge_all([whole, each(&parts, &[0, 3])].concat());
}

#[test]
fn connections_that_break_again_and_again_are_outlasted() {
    let broken = |times| Rule { times, ..Rule::once("/write?", Fault::Reply(0)) };
    let refused = |times| Rule { times, ..Rule::once("/write?", Fault::InBody(10)) };
    judge_all(vec![("four breaks".into(), vec![broken(2), refused(2)])]);
}
