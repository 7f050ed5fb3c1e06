//! Laws of plans on arbitrary models, and what is decided in each case.

use super::*;
use crate::window::{DAY, HOUR};
use proptest::collection::btree_map;
use proptest::prelude::*;

const OPTIONS: Options<'static> = Options {
    passwords: true,
    queries: true,
    subscriptions: true,
    renamed: false,
    scoped: false,
    points_back: &|address| address.contains("//back"),
};

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[ab]", Just("autogen".to_owned()), "[a\"' .\\\\\né]{1,4}"]
}

fn grant() -> impl Strategy<Value = Grant> {
    (1..4_u8).prop_map(|bits| Grant { read: bits & 1 != 0, write: bits & 2 != 0 })
}

fn subscription() -> impl Strategy<Value = Subscription> {
    let address = prop_oneof![Just("http://u:p@h:1"), Just("udp://h:2"), Just("http://back:1")];
    (any::<bool>(), address).prop_map(|(all, address)| Subscription {
        mode: if all { "ALL" } else { "ANY" }.into(),
        destinations: vec![address.into()],
    })
}

fn policy() -> impl Strategy<Value = Policy> {
    let days = prop_oneof![Just(0), 1..4_i64];
    let subscriptions = btree_map(name(), subscription(), 0..2);
    (days, 1..3_i64, 1..4_u32, subscriptions).prop_map(
        |(days, hours, replication, subscriptions)| Policy {
            duration: days * DAY,
            shard_duration: hours * HOUR,
            replication,
            subscriptions,
        },
    )
}

fn database() -> impl Strategy<Value = Database> {
    let queries = btree_map(name(), "[xy]".prop_map(query), 0..3);
    (btree_map(name(), policy(), 0..3), queries, any::<prop::sample::Index>()).prop_map(
        |(policies, queries, at)| {
            let names: Vec<&String> = policies.keys().collect();
            let default = if names.is_empty() { String::new() } else { at.get(&names).to_string() };
            Database { default_policy: default, policies, queries }
        },
    )
}

fn query(text: String) -> String {
    format!("CREATE CONTINUOUS QUERY q ON d BEGIN {text} END")
}

fn schema() -> impl Strategy<Value = Schema> {
    let user = (any::<bool>(), btree_map(name(), grant(), 0..3)).prop_map(|(admin, grants)| User {
        admin,
        grants,
        ..User::default()
    });
    (btree_map(name(), database(), 0..3), btree_map(name(), user, 0..3))
        .prop_map(|(databases, users)| Schema { databases, users })
}

proptest! {
    #[test]
    fn doing_every_change_leaves_nothing_to_do(source in schema(), destination in schema()) {
        let mut made = destination.clone();
        let first = plan(&source, &destination, &OPTIONS);
        first.changes.iter().for_each(|one| one.change.make(&mut made));
        let again = plan(&source, &made, &OPTIONS);
        prop_assert_eq!(&again.changes, &[]);
        prop_assert_eq!(&first.extra, &again.extra, "nothing that is extra comes or goes");
    }

    #[test]
    fn doing_what_can_be_done_leaves_what_was_left(source in schema(), destination in schema()) {
        let options = Options { passwords: false, queries: false, subscriptions: false, ..OPTIONS };
        let first = plan(&source, &destination, &options);
        let mut made = destination.clone();
        first.made().for_each(|change| change.make(&mut made));
        let again = plan(&source, &made, &options);
        let left: Vec<_> = first.changes.into_iter().filter(|one| one.left.is_some()).collect();
        prop_assert_eq!(again.changes, left);
    }

    #[test]
    fn a_schema_needs_nothing_to_be_itself(source in schema()) {
        let same = plan(&source, &source, &OPTIONS);
        prop_assert_eq!((same.changes, same.extra), (vec![], vec![]));
    }

    #[test]
    fn nothing_that_is_shown_holds_a_password(source in schema()) {
        for one in plan(&source, &Schema::default(), &OPTIONS).changes {
            let shown = one.change.shown().unwrap_or_default();
            prop_assert!(!shown.contains("u:p") && !one.change.what().contains("u:p"));
        }
    }
}

fn with_policy(policy: Policy) -> Schema {
    let policies = BTreeMap::from([("r".to_owned(), policy)]);
    let database = Database { default_policy: "r".into(), policies, ..Database::default() };
    Schema { databases: BTreeMap::from([("d".to_owned(), database)]), ..Schema::default() }
}

fn kept(duration: i64, replication: u32) -> Schema {
    let subscriptions = BTreeMap::new();
    with_policy(Policy { duration, shard_duration: HOUR, replication, subscriptions })
}

#[test]
fn a_policy_is_made_longer_and_never_shorter() {
    let longer = plan(&kept(0, 1), &kept(DAY, 1), &OPTIONS);
    assert!(matches!(&longer.changes[..], [Planned { left: None, .. }]), "{longer:?}");
    for theirs in [0, 2 * DAY] {
        let shorter = plan(&kept(DAY, 1), &kept(theirs, 1), &OPTIONS);
        let [Planned { change: Change::ShortenPolicy { .. }, left }] = &shorter.changes[..] else {
            panic!("{shorter:?}")
        };
        assert_eq!(*left, Some(Left::Deletes));
    }
}

#[test]
fn copies_of_a_cluster_are_never_made_fewer() {
    let fewer = plan(&kept(0, 1), &kept(0, 2), &OPTIONS);
    assert_eq!((fewer.changes.len(), fewer.extra.len()), (0, 1));
    let more = plan(&kept(0, 3), &kept(0, 2), &OPTIONS);
    assert_eq!((more.changes.len(), more.extra.len()), (1, 0));
}

#[test]
fn what_a_user_may_do_is_added_to() {
    let user = |grant: Grant| {
        let grants = BTreeMap::from([("d".to_owned(), grant)]);
        let user = User { grants, ..User::default() };
        Schema { users: BTreeMap::from([("u".to_owned(), user)]), ..Schema::default() }
    };
    let (read, write) = (Grant { read: true, write: false }, Grant { read: false, write: true });
    let both = plan(&user(read), &user(write), &OPTIONS);
    let statement = both.changes[0].change.shown().unwrap();
    assert_eq!(statement, "GRANT ALL ON \"d\" TO \"u\"", "GRANT READ alone would take WRITE away");
    assert_eq!(both.extra, ["user \"u\" may WRITE \"d\""]);
    let mut everywhere = Schema::default();
    let all = User { everywhere: read.and(write), ..User::default() };
    everywhere.users.insert("u".into(), all);
    assert_eq!(plan(&user(read), &everywhere, &OPTIONS).changes, []);
}

#[test]
fn what_cannot_be_done_is_left_with_its_reason() {
    let mut source = kept(0, 1);
    let database = source.databases.get_mut("d").unwrap();
    database.queries.insert("q".into(), query("x".into()));
    database.queries.insert("z".into(), query("END; DROP DATABASE d".into()));
    source.users.insert("a\rb".into(), User::default());
    let renamed = Options { renamed: true, ..OPTIONS };
    let left = plan(&source, &kept(0, 1), &renamed);
    assert_eq!(left.changes.len(), 3);
    let impossible = |one: &Planned| matches!(one.left, Some(Left::Impossible(_)));
    assert!(left.changes.iter().all(impossible), "{left:?}");
    let left = plan(&source, &kept(0, 1), &OPTIONS);
    assert_eq!(left.changes.iter().filter(|one| impossible(one)).count(), 2, "{left:?}");
}

#[test]
fn a_subscription_that_points_at_the_destination_is_not_moved() {
    let subscription =
        Subscription { mode: "ALL".into(), destinations: vec!["http://back:8086".into()] };
    let policy = Policy {
        shard_duration: HOUR,
        replication: 1,
        subscriptions: BTreeMap::from([("s".to_owned(), subscription)]),
        ..Policy::default()
    };
    let found = plan(&with_policy(policy), &kept(0, 1), &OPTIONS);
    assert_eq!((found.changes.len(), found.apart.len()), (0, 1));
}
