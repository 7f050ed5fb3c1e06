//! `schema` on real servers: hostile names make the way from a live server, a data directory and a
//! backup, nothing is dropped or shortened, and no password or hash is printed. The meta nodes of a
//! cluster are scripted.

#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use common::canary::Canary;
use common::http::Endpoint;
use common::influxd::{ident, rows};
use common::{Gapless, Influxd, Ran, http};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

const DATABASES: [&str; 4] = ["db", "a\"b c d.e'ü", "select", " from x; drop "];
const POLICY: &str = "r p\".é';";
/// Names that servers allow for users, queries and subscriptions, and not for databases.
const ANYTHING: &str = "x\"y\\z \n.'ü;--/*";

/// A server with everything there is under hostile names; a secret is in passwords and an address.
fn source(secret: &str) -> Influxd {
    let server = Influxd::builder().auth("root", secret).start();
    let (policy, any) = (ident(POLICY), ident(ANYTHING));
    for name in DATABASES {
        let on = ident(name);
        server.query(&format!("CREATE DATABASE {on}"));
        server.query(&format!(
            "CREATE RETENTION POLICY {policy} ON {on} DURATION 90m REPLICATION 2 SHARD DURATION 1h DEFAULT"
        ));
        server.query(&format!(
            "ALTER RETENTION POLICY autogen ON {on} DURATION 300d SHARD DURATION 9d"
        ));
        server.query(&format!(
            "CREATE CONTINUOUS QUERY {any} ON {on} RESAMPLE EVERY 10m FOR 1h BEGIN SELECT mean(\"v\\\"\\\\x\") \
             AS \"a\\\\b\" INTO {on}.{policy}.\"m\\n\\\"\\\\q\" FROM \"m\\\"1\" WHERE \"t\\\"\\\\a\" = \
             'v\\'\\\\ \"\\n' AND m =~ /a\\/b\"\\n/ GROUP BY time(5m), \"t ag\" END"
        ));
        server.query(&format!(
            "CREATE CONTINUOUS QUERY plain ON {on} BEGIN SELECT mean(v) + 0.5 INTO {on}.{policy}.:MEASUREMENT \
             FROM /.*/ WHERE host::tag != 'a' GROUP BY time(90s, 10s), * fill(-1.5) tz('Europe/Berlin') END"
        ));
        server.query(&format!(
            "CREATE SUBSCRIPTION {any} ON {on}.{policy} DESTINATIONS ALL 'http://u:{}@h:9090', 'udp://i:9'",
            http::encode(secret).replace('%', "Z")
        ));
    }
    let password = secret.replace('\\', "\\\\").replace('\'', "\\'");
    for (user, admin) in [(ANYTHING, ""), ("select", ""), ("boss", " WITH ALL PRIVILEGES")] {
        server.query(&format!("CREATE USER {} WITH PASSWORD '{password}'{admin}", ident(user)));
    }
    let grants = ["READ", "WRITE", "ALL", "READ"];
    for (grant, name) in grants.iter().zip(DATABASES) {
        server.query(&format!("GRANT {grant} ON {} TO {any}", ident(name)));
    }
    server
}

/// All that a server says of it.
fn shown(server: &Influxd) -> Vec<Value> {
    let ask = |q: &str| server.query(q)["results"][0]["series"].clone();
    let users = server.query("SHOW USERS");
    let users: Vec<Value> = rows(&users).into_iter().cloned().collect();
    let mut all = vec![ask("SHOW CONTINUOUS QUERIES"), ask("SHOW SUBSCRIPTIONS"), json!(users)];
    let mut users: Vec<&Value> = users.iter().collect();
    users.sort_by_key(|user| user.to_string());
    for user in users.iter().map(|user| user[0].as_str().unwrap()) {
        all.push(ask(&format!("SHOW GRANTS FOR {}", ident(user))));
    }
    for name in DATABASES {
        let policies = server.query(&format!("SHOW RETENTION POLICIES ON {}", ident(name)));
        all.push(json!(rows(&policies)));
    }
    all.into_iter().map(sorted).collect()
}

/// A value whose lists are sorted.
fn sorted(value: Value) -> Value {
    match value {
        Value::Array(items) => {
            let mut items: Vec<Value> = items.into_iter().map(sorted).collect();
            items.sort_by_key(ToString::to_string);
            Value::Array(items)
        }
        Value::Object(parts) => {
            parts.into_iter().map(|(name, part)| (name, sorted(part))).collect()
        }
        other => other,
    }
}

/// A directory to run in, and a secret to look for.
struct Bench {
    dir: TempDir,
    canary: Canary,
}

impl Bench {
    fn new(mark: &str) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), canary: Canary::new(mark) }
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let ran = Gapless::new(["schema"])
            .args(arguments)
            .args(["--log", "log.json", "--log-format", "json", "--log-level", "trace"])
            .env("GAPLESS_SOURCE_PASSWORD", &self.canary.text)
            .env("GAPLESS_DESTINATION_PASSWORD", &self.canary.text)
            .env("XDG_STATE_HOME", self.dir.path().join("state"))
            .dir(self.dir.path())
            .run();
        for bytes in [&ran.stdout, &ran.stderr] {
            self.canary.assert_not_in(bytes, "the output");
            assert_no_hash(bytes);
        }
        ran
    }

    fn json(&self, arguments: &[&str], status: i32) -> Value {
        let ran = self.run(&[arguments, &["--json"]].concat()).expect_status(status);
        serde_json::from_str(&ran.out()).unwrap()
    }

    /// Runs what a report names as the next command.
    fn next(&self, report: &Value, status: i32) -> Ran {
        let next = report["next"].as_str().unwrap();
        let command = next.strip_prefix("gapless ").unwrap();
        let script = format!("{} {command}", env!("CARGO_BIN_EXE_gapless"));
        Gapless::program("sh", ["-c", &script])
            .env("GAPLESS_SOURCE_PASSWORD", &self.canary.text)
            .env("GAPLESS_DESTINATION_PASSWORD", &self.canary.text)
            .dir(self.dir.path())
            .run()
            .expect_status(status)
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// Looks for secrets in every file but those of new passwords, which are taken away first.
    fn assert_silent(&self) {
        self.canary.assert_not_below(self.dir.path());
        let log = fs::read(self.dir.path().join("log.json")).unwrap();
        assert!(log.windows(6).any(|part| part == b"/query"), "requests are in the log");
        assert_no_hash(&log);
    }
}

fn assert_no_hash(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for form in ["$2a$", "$2b$", "$2y$", "pbkdf2"] {
        assert!(!text.contains(form), "a hash ({form}): {text}");
    }
}

/// States of the changes by kind, each once, sorted.
fn states(report: &Value, state: &str) -> Vec<String> {
    let items = report["changes"].as_array().unwrap().iter();
    let mut kinds: Vec<String> = items
        .filter(|item| item["state"] == state)
        .map(|item| item["kind"].as_str().unwrap().to_owned())
        .collect();
    kinds.sort();
    kinds.dedup();
    kinds
}

fn passwords(path: &str) -> Vec<(String, String)> {
    assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(path).unwrap();
    let line = |line: &str| -> (String, String) {
        let line: Value = serde_json::from_str(line).unwrap();
        (line["user"].as_str().unwrap().into(), line["password"].as_str().unwrap().into())
    };
    text.lines().map(line).collect()
}

#[test]
fn hostile_names_make_the_way_and_a_second_run_has_nothing_to_do() {
    let bench = Bench::new("schemaQv7");
    let (one, two) = (source(&bench.canary.text), Influxd::builder());
    let two = two.auth("root", &bench.canary.text).start();
    let (from, to) = (one.location(""), two.location(""));

    let before = two.query("SHOW DATABASES");
    let plan = bench.json(&[&from, &to], 1);
    assert_eq!((&plan["applied"], &plan["verdict"]), (&false.into(), &"different".into()));
    assert_eq!(states(&plan, "planned"), ["database", "retention_policy"], "{plan:#}");
    assert_eq!(states(&plan, "left"), ["continuous_query", "grant", "subscription", "user"]);
    assert_eq!(plan["users_without_password"], json!(["boss", "select", ANYTHING]));
    assert_eq!(before, two.query("SHOW DATABASES"), "a plan writes nothing");

    bench
        .run(&[&from, &to])
        .expect_status(1)
        .expect_out("needs a new password: missing user \"boss\"");
    let applied = bench.json(&[&from, &to, "--apply"], 3);
    assert_eq!(states(&applied, "done"), ["database", "retention_policy"], "{applied:#}");
    let made = bench.next(&applied, 1);
    made.expect_out("DIFFERENT").expect_out("left for later: missing continuous query");
    let made = passwords(&bench.path("gapless-passwords.jsonl"));
    assert_eq!(made.len(), 3);
    for (user, password) in &made {
        let endpoint = Endpoint { user: Some((user, password)), ..two.endpoint() };
        let target = "/query?q=SHOW%20DATABASES";
        let reply = http::request(&endpoint, "GET", target, &[], &[]).unwrap();
        assert_eq!(reply.status, 200, "{user:?}: {}", reply.text());
    }
    fs::remove_file(bench.path("gapless-passwords.jsonl")).unwrap();
    let log = fs::read_to_string(bench.path("log.json")).unwrap();
    assert!(made.iter().all(|(_, password)| !log.contains(password)));

    let all = ["--apply", "--with-cqs", "--with-subscriptions", "--report", "r.html"];
    let rest = bench.json(&[&[&*from, &to], &all[..]].concat(), 0);
    assert_eq!(states(&rest, "done"), ["continuous_query", "subscription"], "{rest:#}");
    assert_eq!(rest["verdict"], "identical");
    assert_eq!(shown(&one), shown(&two));

    let again = bench.json(&[&[&*from, &to], &all[..]].concat(), 0);
    assert_eq!(again["changes"], json!([]));
    let again = bench.run(&[&from, &to]).expect_status(0);
    again.expect_out("IDENTICAL");
    bench.assert_silent();
}

#[test]
fn a_data_directory_a_backup_and_the_snapshot_port_say_the_same_as_the_server() {
    let bench = Bench::new("schemaRd3");
    let one = source(&bench.canary.text);
    one.write("db", "m v=1");
    let two = Influxd::start();
    let backup = bench.dir.path().join("backup");
    one.backup(&["-portable"], &backup);
    let older = bench.dir.path().join("older");
    one.backup(&[], &older);
    let directory = one.data_dir().to_str().unwrap().to_owned();
    let [backup_name, older_name] = [&backup, &older].map(|dir| dir.to_str().unwrap().to_owned());
    let places = [backup_name, older_name, directory, one.snapshot_location("")];
    let live = bench.json(&[&one.location(""), &two.location("")], 1);
    for place in &places {
        let plan = bench.json(&[place, &two.location("")], 1);
        assert_eq!(plan["changes"], live["changes"], "{place}");
        let same = bench.json(&[place, &one.location("")], 0);
        assert_eq!(same["verdict"], "identical", "{place}");
        let same = bench.json(&[&one.location(""), place], 0);
        assert_eq!(same["verdict"], "identical", "{place}");
    }
    let meta = one.data_dir().join("meta");
    let apart = one.data_dir().join("data");
    let apart = [apart.to_str().unwrap(), &one.location(""), "--meta-dir", meta.to_str().unwrap()];
    bench.json(&apart, 0);
    let all = ["--apply", "--with-cqs", "--with-subscriptions", "--passwords", "new"];
    bench.json(&[&[&*places[0], &two.location("")], &all[..]].concat(), 0);
    assert_eq!(shown(&one), shown(&two));
    assert_eq!(passwords(&bench.path("new")).len(), 4);
    let refused = bench.run(&[&[&*places[0], &two.location("")], &all[..]].concat());
    refused.expect_status(4).expect_err("name a file that does not exist");
    for dir in [backup, older] {
        fs::remove_dir_all(dir).unwrap();
    }
    bench.assert_silent();
}

#[test]
fn nothing_is_dropped_shortened_or_taken_away() {
    let bench = Bench::new("schemaWt9");
    let (one, two) = (Influxd::start(), Influxd::start());
    let both = |q: &str| [&one, &two].map(|server| server.query(q));
    both("CREATE DATABASE db");
    both("CREATE USER u WITH PASSWORD 'x'");
    one.query(
        "CREATE RETENTION POLICY long ON db DURATION INF REPLICATION 1 SHARD DURATION 2d DEFAULT",
    );
    two.query("CREATE RETENTION POLICY long ON db DURATION 3d REPLICATION 2 SHARD DURATION 1d");
    one.query("CREATE RETENTION POLICY short ON db DURATION 2h REPLICATION 1");
    two.query("CREATE RETENTION POLICY short ON db DURATION 3d REPLICATION 1 SHARD DURATION 1h");
    one.query("GRANT READ ON db TO u");
    two.query("GRANT WRITE ON db TO u");
    let query = |what: &str| {
        format!(
            "CREATE CONTINUOUS QUERY q ON db BEGIN SELECT {what}(v) INTO x FROM y GROUP BY time(1m) END"
        )
    };
    one.query(&query("mean"));
    two.query(&query("max"));
    for extra in [
        "CREATE DATABASE more",
        "CREATE RETENTION POLICY more ON db DURATION 1d REPLICATION 1",
        "CREATE USER more WITH PASSWORD 'x' WITH ALL PRIVILEGES",
        "CREATE SUBSCRIPTION more ON db.autogen DESTINATIONS ANY 'http://h:1'",
    ] {
        two.query(extra);
    }
    let (from, to) = (one.location(""), two.location(""));
    let applied = bench.json(&[&from, &to, "--apply", "--with-cqs"], 3);
    assert_eq!(states(&applied, "done"), ["continuous_query", "grant", "retention_policy"]);
    assert_eq!(states(&applied, "left"), ["retention_policy"], "{applied:#}");
    let left = applied["changes"].as_array().unwrap();
    let left = left.iter().find(|item| item["state"] == "left").unwrap();
    assert_eq!(left["left"]["class"], "deletes");
    assert_eq!(applied["extra"].as_array().unwrap().len(), 6, "{applied:#}");

    let policies = two.query("SHOW RETENTION POLICIES ON db");
    let policies: Vec<String> = rows(&policies).iter().map(|row| row.to_string()).collect();
    for expected in [
        r#"["autogen","0s","168h0m0s",1,false]"#,
        r#"["long","0s","48h0m0s",2,true]"#,
        r#"["short","72h0m0s","1h0m0s",1,false]"#,
        r#"["more","24h0m0s","1h0m0s",1,false]"#,
    ] {
        assert!(policies.iter().any(|found| found == expected), "{expected}: {policies:?}");
    }
    let grants = two.query("SHOW GRANTS FOR u");
    assert_eq!(rows(&grants), [&json!(["db", "ALL PRIVILEGES"])]);
    let queries = two.query("SHOW CONTINUOUS QUERIES").to_string();
    assert!(queries.contains("mean(v)") && !queries.contains("max(v)"), "{queries}");

    two.query("ALTER RETENTION POLICY short ON db DURATION 2h");
    let same = bench.json(&[&from, &to], 0);
    assert_eq!((&same["verdict"], &same["changes"]), (&"complete".into(), &json!([])));
}

#[test]
fn a_subscription_to_the_destination_stays_where_it_is() {
    let bench = Bench::new("schemaLp4");
    let (one, two) = (Influxd::start(), Influxd::start());
    one.create_database("db");
    for (name, port) in [("loop", two.port()), ("other", one.port())] {
        one.query(&format!(
            "CREATE SUBSCRIPTION {name} ON db.autogen DESTINATIONS ALL 'http://localhost:{port}'"
        ));
    }
    let sides = [one.location(""), two.location("")];
    let plan = bench.json(&[&sides[0], &sides[1], "--with-subscriptions"], 1);
    assert!(plan["kept_apart"][0].as_str().unwrap().contains("\"loop\""), "{plan:#}");
    bench.next(&plan, 0).expect_out("IDENTICAL").expect_out("kept apart");
    let there = two.query("SHOW SUBSCRIPTIONS").to_string();
    assert!(there.contains("other") && !there.contains("loop"), "{there}");
}

#[test]
fn one_database_is_moved_alone_and_under_another_name() {
    let bench = Bench::new("schemaDb5");
    let (one, two) = (source(&bench.canary.text), Influxd::start());
    let to = two.location("new%20name");
    let sides = [one.location(""), to.clone()];
    bench.run(&[&sides[0], &to]).expect_status(2).expect_err("--db");
    bench.run(&[&one.location("nothing"), &to]).expect_status(4).expect_err("not found");
    let options = ["--db", DATABASES[2], "--apply", "--passwords", "p", "--with-cqs"];
    let applied = bench.json(&[&[&*sides[0], &to], &options[..]].concat(), 3);
    assert_eq!(states(&applied, "left"), ["continuous_query", "subscription"], "{applied:#}");
    assert_eq!(rows(&two.query("SHOW DATABASES")).len(), 1);
    assert_eq!(rows(&two.query("SHOW USERS")), [&json!([ANYTHING, false])]);
    let grants = two.query(&format!("SHOW GRANTS FOR {}", ident(ANYTHING)));
    assert_eq!(rows(&grants), [&json!(["new name", "ALL PRIVILEGES"])]);
    let by_path = bench.json(&[&one.location("select"), &to, "--with-cqs"], 1);
    assert_eq!(states(&by_path, "planned"), [""; 0], "{by_path:#}");
}

#[test]
fn who_may_not_look_is_told_whom_to_name() {
    let bench = Bench::new("schemaNo1");
    let one = source(&bench.canary.text);
    let two = Influxd::start();
    let reader = one.location("").replace("root@", "select@");
    let ran = bench.run(&[&reader, &two.location("")]).expect_status(4);
    ran.expect_err("GAPLESS_SOURCE_PASSWORD");
    for (arguments, words) in [
        (["-", &*two.location("")], "holds no users"),
        ([&*two.location(""), "null:"], "holds no users"),
    ] {
        bench.run(&arguments).expect_status(4).expect_err(words);
    }
    let archive = bench.path("a");
    bench.run(&[&one.location(""), &archive, "--apply"]).expect_status(2).expect_err("no server");
    let same = one.location("");
    bench.run(&[&same, &same]).expect_status(2).expect_err("the same");
}

/// A meta node that keeps users, or sends changes elsewhere.
struct MetaNode {
    port: u16,
    /// Request lines with their bodies, and whether credentials were among the headers.
    asked: Arc<Mutex<Vec<(String, String, bool)>>>,
}

/// What all nodes of a cluster know.
#[derive(Default)]
struct Cluster {
    members: Vec<String>,
    users: Value,
}

impl MetaNode {
    fn start(cluster: &Arc<Mutex<Cluster>>, leader: Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (theirs, cluster) = (Arc::clone(&asked), Arc::clone(cluster));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.unwrap());
                let (mut head, mut length) = (Vec::new(), 0);
                loop {
                    let mut line = String::new();
                    if stream.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
                        break;
                    }
                    let lower = line.to_ascii_lowercase();
                    if let Some(value) = lower.strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    head.push(line);
                }
                let Some(first) = head.first() else { continue };
                let mut body = vec![0; length];
                stream.read_exact(&mut body).unwrap();
                let body = String::from_utf8(body).unwrap();
                let known = head
                    .iter()
                    .any(|line| line.to_ascii_lowercase().starts_with("authorization: basic"));
                let first = first.trim().to_owned();
                theirs.lock().unwrap().push((first.clone(), body.clone(), known));
                let mut cluster = cluster.lock().unwrap();
                let reply = answer(&mut cluster, &first, &body, known, leader.as_deref());
                stream.get_mut().write_all(reply.as_bytes()).ok();
            }
        });
        Self { port, asked }
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn posts(&self) -> Vec<Value> {
        let asked = self.asked.lock().unwrap();
        let posts = asked.iter().filter(|(first, ..)| first.starts_with("POST"));
        posts.map(|(_, body, _)| serde_json::from_str(body).unwrap()).collect()
    }
}

fn answer(
    cluster: &mut Cluster,
    first: &str,
    body: &str,
    known: bool,
    leader: Option<&str>,
) -> String {
    let reply = |status: &str, headers: &str, body: &str| {
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        )
    };
    if !known {
        return reply("401 Unauthorized", "", "{\"error\":\"who?\"}");
    }
    match (first.split(' ').next().unwrap(), first.split(' ').nth(1).unwrap()) {
        ("GET", "/show-cluster") => {
            let node = |addr: &String| json!({ "addr": addr, "version": "1.9.0-c1.9.0" });
            let meta: Vec<Value> = cluster.members.iter().map(node).collect();
            reply("200 OK", "", &json!({ "data": [], "meta": meta }).to_string())
        }
        ("GET", "/user") => {
            let users = cluster.users.as_object().unwrap().iter().map(|(name, permissions)| {
                json!({ "name": name, "hash": "$2a$10$verysecret", "permissions": permissions })
            });
            reply("200 OK", "", &json!({ "users": users.collect::<Vec<_>>() }).to_string())
        }
        ("GET", "/role") => {
            let role = json!({ "name": "readers", "users": ["roled"], "permissions": { "db": ["ReadData"] } });
            reply("200 OK", "", &json!({ "roles": [role] }).to_string())
        }
        ("POST", "/user") if leader.is_some() => {
            let to = format!("Location: http://{}/user\r\n", leader.unwrap());
            reply("307 Temporary Redirect", &to, "")
        }
        ("POST", "/user") => {
            let asked: Value = serde_json::from_str(body).unwrap();
            let name = asked["user"]["name"].as_str().unwrap().to_owned();
            let users = cluster.users.as_object_mut().unwrap();
            if asked["action"] == "create" {
                assert_eq!(asked["user"]["password"].as_str().unwrap().len(), 32);
                users.insert(name, json!({}));
            } else {
                assert_eq!(asked["action"], "add-permissions");
                for (database, names) in asked["user"]["permissions"].as_object().unwrap() {
                    let held = &mut users.get_mut(&name).unwrap()[database];
                    if held.is_null() {
                        *held = json!([]);
                    }
                    held.as_array_mut().unwrap().extend(names.as_array().unwrap().clone());
                }
            }
            reply("200 OK", "", "")
        }
        _ => reply("404 Not Found", "", ""),
    }
}

/// A source with users, a destination without users, and where both are.
fn with_users(bench: &Bench) -> (Influxd, Influxd, [String; 2]) {
    let (one, two) = (Influxd::start(), Influxd::start());
    one.create_database("db");
    for statement in [
        "CREATE USER boss WITH PASSWORD 'x' WITH ALL PRIVILEGES",
        "CREATE USER writer WITH PASSWORD 'x'",
        "CREATE USER roled WITH PASSWORD 'x'",
        "GRANT WRITE ON db TO writer",
        "GRANT READ ON db TO roled",
    ] {
        one.query(statement);
    }
    assert!(bench.dir.path().exists());
    let to = two.location("").replace("://", "://ops@");
    let from = one.location("");
    (one, two, [from, to])
}

#[test]
fn users_are_made_by_the_leader_of_the_meta_nodes() {
    let bench = Bench::new("schemaMt6");
    let (_one, two, [from, to]) = with_users(&bench);
    let cluster =
        Arc::new(Mutex::new(Cluster { users: json!({ "roled": {} }), ..Cluster::default() }));
    let leader = MetaNode::start(&cluster, None);
    let follower = MetaNode::start(&cluster, Some(leader.address()));
    cluster.lock().unwrap().members = vec![leader.address(), follower.address()];
    let api = format!("http://{}", follower.address());

    let plan = bench.json(&[&from, &to, "--meta-api", &api], 1);
    assert_eq!(plan["users_without_password"], json!(["boss", "writer"]), "{plan:#}");
    assert!(follower.posts().is_empty() && leader.posts().is_empty(), "a plan writes nothing");
    let options = ["--meta-api", &api, "--apply", "--passwords", "p"];
    let applied = bench.json(&[&[&*from, &to], &options[..]].concat(), 0);
    assert_eq!(states(&applied, "done"), ["database", "grant", "user"], "{applied:#}");
    assert_eq!(follower.posts().len(), 1, "the leader is known after the first redirect");
    let asked = leader.posts();
    let actions: Vec<&str> = asked.iter().map(|one| one["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["create", "add-permissions", "create", "add-permissions"]);
    assert_eq!(asked[1]["user"]["permissions"][""].as_array().unwrap().len(), 16);
    assert_eq!(asked[3]["user"]["permissions"], json!({ "db": ["WriteData"] }));
    assert!(!two.query("SHOW USERS").to_string().contains("boss"), "InfluxQL was not used");
    let made = passwords(&bench.path("p"));
    assert_eq!(asked[0]["user"]["password"], made[0].1);
    let log = fs::read_to_string(bench.path("log.json")).unwrap();
    assert!(made.iter().all(|(_, password)| !log.contains(password)));
    bench.json(&[&from, &to, "--meta-api", &api], 0);
    bench.assert_silent();
}

#[test]
fn credentials_are_sent_to_no_node_that_the_cluster_does_not_list() {
    let bench = Bench::new("schemaEv2");
    let (_one, _two, [from, to]) = with_users(&bench);
    let cluster = Arc::new(Mutex::new(Cluster { users: json!({}), ..Cluster::default() }));
    let stranger = MetaNode::start(&cluster, None);
    let node = MetaNode::start(&cluster, Some(stranger.address()));
    cluster.lock().unwrap().members = vec![node.address()];
    let api = format!("http://{}", node.address());
    let options = ["--meta-api", &api, "--apply", "--passwords", "p"];
    let applied = bench.json(&[&[&*from, &to], &options[..]].concat(), 3);
    assert_eq!(states(&applied, "failed"), ["grant", "user"], "{applied:#}");
    let failure = applied["changes"][1]["failure"].as_str().unwrap();
    assert!(failure.contains("does not list"), "{failure}");
    assert_eq!(stranger.asked.lock().unwrap().len(), 0, "nothing was asked there");
    bench.run(&[&from, &to, "--meta-api", "http://u:p@h"]).expect_status(2).expect_nowhere("u:p");
    assert!(Path::new(&bench.path("p")).exists());
}
