//! Where requests go, with time handed in; and that who waits is woken.

use super::*;

const WRITE: Kind = Kind::Write(1_000);

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn cluster(count: usize, at_once: usize) -> Cluster {
    Cluster::new((0..count).map(|at| format!("n{at}")).collect(), at_once)
}

fn tried(nodes: &[usize]) -> Tried {
    let mut tried = Tried::default();
    nodes.iter().for_each(|&node| tried.add(node));
    tried
}

fn choose(cluster: &mut Cluster, kind: Kind, seconds: u64) -> Choice {
    cluster.choose(kind, at(seconds), Tried::default())
}

/// Has a node fail at once, with the longest pause.
fn fail(cluster: &mut Cluster, node: usize, seconds: u64) -> Option<News> {
    cluster.end(node, WRITE, at(seconds), at(seconds), &Outcome::Ended);
    cluster.failed(node, at(seconds), 1.0, "gone")
}

#[test]
fn writes_are_spread_and_reads_are_not() {
    let mut cluster = cluster(3, 4);
    let chosen: Vec<_> = (0..6).map(|_| choose(&mut cluster, WRITE, 0)).collect();
    assert_eq!(chosen, [0, 1, 2, 0, 1, 2].map(Choice::Node));
    cluster.end(1, WRITE, at(0), at(1), &Outcome::Answered);
    assert_eq!(choose(&mut cluster, WRITE, 1), Choice::Node(1), "it has the least to do");
    for _ in 0..3 {
        assert_eq!(choose(&mut cluster, Kind::Query, 1), Choice::Node(0));
        assert_eq!(choose(&mut cluster, Kind::Plain, 1), Choice::Node(0));
    }
}

#[test]
fn no_node_gets_more_than_its_pace_allows() {
    let mut cluster = cluster(2, 2);
    for _ in 0..4 {
        assert!(matches!(choose(&mut cluster, WRITE, 0), Choice::Node(_)));
    }
    assert_eq!(choose(&mut cluster, WRITE, 0), Choice::Wait(None));
    let busy = Outcome::Busy { why: "503".into(), after: Some(at(9)) };
    assert_eq!(cluster.end(0, WRITE, at(0), at(1), &busy), Some(News::BackedOff("503".into())));
    assert_eq!(choose(&mut cluster, WRITE, 1), Choice::Wait(Some(at(10))), "its wish is kept");
    cluster.end(1, WRITE, at(0), at(1), &Outcome::Answered);
    assert_eq!(choose(&mut cluster, WRITE, 1), Choice::Node(1));
    for _ in 0..2 {
        assert_eq!(choose(&mut cluster, Kind::Query, 1), Choice::Node(0));
    }
    assert_eq!(choose(&mut cluster, Kind::Query, 1), Choice::Wait(None));
    assert_eq!(choose(&mut cluster, Kind::Plain, 1), Choice::Node(0), "a ping may always go");
}

#[test]
fn a_node_that_fails_is_left_out_and_tried_again_after_growing_pauses() {
    let mut cluster = cluster(2, 4);
    choose(&mut cluster, WRITE, 0);
    let left_out = News::LeftOut { node: "n0".into(), reason: "gone".into() };
    assert_eq!(fail(&mut cluster, 0, 0), Some(left_out));
    let mut now = Duration::ZERO;
    let mut pauses = Vec::new();
    for _ in 0..9 {
        let until = cluster.nodes[0].out.expect("it is out").until;
        pauses.push((until - now).as_secs());
        let before = until.saturating_sub(Duration::from_millis(1));
        let choice = cluster.choose(WRITE, before, Tried::default());
        assert_eq!(choice, Choice::Node(1), "not before its time");
        cluster.end(1, WRITE, before, before, &Outcome::Ended);
        assert_eq!(cluster.choose(WRITE, until, Tried::default()), Choice::Node(0));
        let second = cluster.choose(WRITE, until, Tried::default());
        assert_eq!(second, Choice::Node(1), "one request finds out");
        cluster.end(1, WRITE, until, until, &Outcome::Ended);
        cluster.end(0, WRITE, until, until, &Outcome::Ended);
        assert_eq!(cluster.failed(0, until, 1.0, "gone"), None, "known already");
        now = until;
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    assert_eq!(cluster.answered(0), Some(News::Returned { node: "n0".into() }));
    assert_eq!(cluster.answered(0), None);
    let summary = cluster.summary();
    assert_eq!((summary.nodes[0].left_out, summary.nodes[0].is_out), (1, false));
    fail(&mut cluster, 0, 1_000);
    assert_eq!(cluster.nodes[0].out.expect("out").until, at(1_001), "pauses begin anew");
}

#[test]
fn requests_that_fail_together_are_one_failure() {
    let mut cluster = cluster(2, 4);
    assert!(cluster.failed(0, at(1), 0.0, "gone").is_some());
    for _ in 0..5 {
        assert!(cluster.failed(0, at(1), 0.0, "gone").is_none());
    }
    let out = cluster.nodes[0].out.expect("out");
    assert_eq!((out.until, out.failures), (at(1) + PAUSE_MIN / 2, 0));
}

#[test]
fn what_one_node_failed_at_another_is_asked() {
    let mut cluster = cluster(2, 4);
    assert_eq!(choose(&mut cluster, Kind::Query, 0), Choice::Node(0));
    cluster.failed(0, at(0), 1.0, "gone");
    assert_eq!(cluster.choose(Kind::Query, at(0), tried(&[0])), Choice::Node(1));
    cluster.failed(1, at(0), 1.0, "gone");
    assert_eq!(cluster.choose(Kind::Query, at(0), tried(&[0, 1])), Choice::Nobody);
    // Nobody lives: the next request asks the one whose pause ends first, and only that.
    cluster.nodes[1].out = Some(Out { until: at(5), failures: 0, on_trial: false });
    cluster.nodes[0].out = Some(Out { until: at(9), failures: 0, on_trial: false });
    assert_eq!(choose(&mut cluster, WRITE, 1), Choice::Node(1));
    assert_eq!(cluster.choose(WRITE, at(1), tried(&[1])), Choice::Nobody);
    assert_eq!(choose(&mut cluster, Kind::Query, 1), Choice::Node(1));
}

#[test]
fn reads_stay_where_they_went() {
    let mut cluster = cluster(3, 4);
    cluster.failed(0, at(0), 1.0, "gone");
    assert_eq!(choose(&mut cluster, Kind::Plain, 0), Choice::Node(1));
    cluster.answered(0);
    assert_eq!(choose(&mut cluster, Kind::Query, 9), Choice::Node(1));
}

#[test]
fn a_single_node_is_never_left_out() {
    let mut cluster = cluster(1, 4);
    assert_eq!(choose(&mut cluster, WRITE, 0), Choice::Node(0));
    assert_eq!(fail(&mut cluster, 0, 0), None);
    assert_eq!(cluster.choose(WRITE, at(0), tried(&[0])), Choice::Nobody);
    assert_eq!(choose(&mut cluster, WRITE, 0), Choice::Node(0));
    assert!(cluster.summary().nodes.is_empty());
}

#[test]
fn who_waits_is_woken_and_news_are_told() {
    let nodes = Arc::new(Nodes::new(vec!["n".into()], 1));
    let (sender, told) = std::sync::mpsc::channel();
    let sender = Mutex::new(sender);
    nodes.tell(Arc::new(move |news| {
        let _gone = sender.lock().map(|sender| sender.send(news));
    }));
    let first = nodes.enter(WRITE, &mut Tried::default()).expect("the node");
    std::thread::scope(|threads| {
        let second = threads.spawn(|| nodes.enter(WRITE, &mut Tried::default()).is_some());
        first.end(&Outcome::Busy { why: "429".into(), after: None });
        assert!(second.join().expect("a thread"));
    });
    nodes.refuse_query(Some(1));
    drop(nodes);
    let told: Vec<News> = told.iter().collect();
    let word = |word: &str| News::BackedOff(word.into());
    assert_eq!(told, [word("429"), News::Recovers, word("queries")]);
}
