//! An InfluxDB 1.6.7 server of one test: its configuration, its life, its clients.
//!
//! Owns the child process, its ports and its temporary directory. A server of another version is
//! refused. Invariant: what answers is our child, since it counts as started only when its own log
//! says that every port is open.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::certificates::{Authority, LOOPBACK};
use super::http::{self, Endpoint, Response};
use super::ports::Port;
use super::run::{self, Gapless, Ran};

const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(60);
/// What the server logs last when it starts, after all of its listeners are open.
const STARTED: &str = "Listening for signals";

/// The settings of a server that is not started yet.
#[derive(Debug, Default)]
pub struct Builder {
    admin: Option<(String, String)>,
    https: bool,
    settings: BTreeMap<String, BTreeMap<String, String>>,
}

impl Builder {
    /// Asks for authentication and creates this admin user, whom the clients here then use.
    pub fn auth(mut self, user: &str, password: &str) -> Self {
        self.admin = Some((user.to_owned(), password.to_owned()));
        self.config("http", "auth-enabled = true")
    }

    /// Serves HTTPS for `127.0.0.1` and `localhost`, by a certificate of [`Influxd::ca`].
    pub fn https(mut self) -> Self {
        self.https = true;
        self
    }

    /// The largest body of a write in bytes; a larger one is refused with status 413.
    pub fn max_body_size(self, bytes: u64) -> Self {
        self.config("http", &format!("max-body-size = {bytes}"))
    }

    /// `inmem` or `tsi1`.
    pub fn index(self, version: &str) -> Self {
        self.config("data", &format!("index-version = {version:?}"))
    }

    /// Sets one line of the configuration, in place of the harness's own line of that name.
    /// The section of the lines before any section is the empty one.
    pub fn config(mut self, section: &str, line: &str) -> Self {
        let (name, value) = line.split_once('=').expect("a line `name = value`");
        let lines = self.settings.entry(section.to_owned()).or_default();
        lines.insert(name.trim().to_owned(), value.trim().to_owned());
        self
    }

    /// Starts the server and waits until it answers.
    #[track_caller]
    pub fn start(self) -> Influxd {
        for _ in 0..20 {
            match self.try_start() {
                Ok(server) => return server,
                Err(log) if log.contains("address already in use") => {}
                Err(log) => panic!("influxd did not start; its log ends with\n{log}"),
            }
        }
        panic!("influxd found its ports in use twenty times over");
    }

    fn try_start(&self) -> Result<Influxd, String> {
        let dir = tempfile::Builder::new().prefix("gapless-influxd-").tempdir().expect("a dir");
        let ca = self.https.then(|| write_certificates(dir.path()));
        let (http, rpc) = (Port::take(), Port::take());
        fs::write(dir.path().join("influxd.conf"), self.text(dir.path(), &http, &rpc))
            .expect("to write the configuration");
        let admin = self.admin.clone();
        let mut server = Influxd { child: None, dir, http, rpc, ca, admin: None };
        server.launch()?;
        if let Some((user, password)) = admin {
            let quoted = password.replace('\\', "\\\\").replace('\'', "\\'");
            let create =
                format!("CREATE USER {user:?} WITH PASSWORD '{quoted}' WITH ALL PRIVILEGES");
            server.query(&create);
            server.admin = Some((user, password));
        }
        Ok(server)
    }

    fn text(&self, dir: &Path, http: &Port, rpc: &Port) -> String {
        let path = |name: &str| format!("{:?}", dir.join(name));
        let mut all: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for (section, name, value) in [
            ("", "reporting-disabled", "true".to_owned()),
            ("", "bind-address", format!("\"127.0.0.1:{}\"", rpc.number)),
            ("meta", "dir", path("meta")),
            ("data", "dir", path("data")),
            ("data", "wal-dir", path("wal")),
            ("data", "query-log-enabled", "false".to_owned()),
            ("http", "bind-address", format!("\"127.0.0.1:{}\"", http.number)),
            ("http", "log-enabled", "false".to_owned()),
            ("http", "https-enabled", self.https.to_string()),
            ("http", "https-certificate", path("server.pem")),
            ("http", "https-private-key", path("server.key")),
            ("monitor", "store-enabled", "false".to_owned()),
            ("subscriber", "enabled", "false".to_owned()),
            ("continuous_queries", "enabled", "false".to_owned()),
        ] {
            all.entry(section.to_owned()).or_default().insert(name.to_owned(), value);
        }
        for (section, lines) in &self.settings {
            all.entry(section.clone()).or_default().extend(lines.clone());
        }
        // The empty section sorts first, as TOML needs it.
        let mut text = String::new();
        for (section, lines) in all {
            if !section.is_empty() {
                text.push_str(&format!("[{section}]\n"));
            }
            for (name, value) in lines {
                text.push_str(&format!("{name} = {value}\n"));
            }
        }
        text
    }
}

/// A running server. Its process is killed when this is dropped.
#[derive(Debug)]
pub struct Influxd {
    child: Option<Child>,
    dir: TempDir,
    http: Port,
    rpc: Port,
    ca: Option<PathBuf>,
    admin: Option<(String, String)>,
}

impl Influxd {
    /// A server with the harness's own settings: plain HTTP, no authentication, `inmem` index.
    #[track_caller]
    pub fn start() -> Self {
        Self::builder().start()
    }

    pub fn builder() -> Builder {
        Builder::default()
    }

    pub fn port(&self) -> u16 {
        self.http.number
    }

    /// The port of backups and snapshots.
    pub fn snapshot_port(&self) -> u16 {
        self.rpc.number
    }

    /// The process id, when it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// The server as gapless names it, `influxdb://127.0.0.1:PORT/PATH`, with the admin user and
    /// the scheme of HTTPS where they apply. The path is a database, `db/rp`, or empty.
    pub fn location(&self, path: &str) -> String {
        let scheme = if self.ca.is_some() { "influxdbs" } else { "influxdb" };
        let user = self.admin.as_ref().map_or(String::new(), |(user, _)| format!("{user}@"));
        let slash = if path.is_empty() { "" } else { "/" };
        format!("{scheme}://{user}127.0.0.1:{}{slash}{path}", self.port())
    }

    /// The snapshot port as gapless names it.
    pub fn snapshot_location(&self, path: &str) -> String {
        let slash = if path.is_empty() { "" } else { "/" };
        format!("influxdb-snapshot://127.0.0.1:{}{slash}{path}", self.snapshot_port())
    }

    /// The certificate, in PEM, that clients of an HTTPS server have to trust.
    pub fn ca(&self) -> &Path {
        self.ca.as_deref().expect("a server built with https()")
    }

    /// The directory that holds `meta`, `data` and `wal`.
    pub fn data_dir(&self) -> &Path {
        self.dir.path()
    }

    /// The last lines of the server's log.
    pub fn log_tail(&self) -> String {
        log_tail(&self.log_since(0))
    }

    /// Shuts the server down cleanly (SIGTERM) and waits. Stopped already, it does nothing.
    #[track_caller]
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        run::signal("TERM", child.id());
        let status = run::wait_until(&mut child, Instant::now() + STOP);
        assert!(status.is_some(), "influxd did not stop in {STOP:?}\n{}", self.log_tail());
    }

    /// Waits until the server has ended by itself.
    #[track_caller]
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the server was started");
        let status = run::wait_until(&mut child, Instant::now() + STOP);
        status.unwrap_or_else(|| {
            run::end(&mut child);
            panic!("influxd did not end in {STOP:?}\n{}", self.log_tail())
        })
    }

    /// True where the server is not running: it was stopped, or has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        let ended = |child: &mut Child| child.try_wait().expect("the state of influxd").is_some();
        if self.child.as_mut().is_some_and(ended) {
            self.child = None;
        }
        self.child.is_none()
    }

    /// Kills the server (SIGKILL), as a power cut would, and waits.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            run::end(&mut child);
        }
    }

    /// Starts the server again with the same directory and ports, stopping it first when it runs.
    #[track_caller]
    pub fn restart(&mut self) {
        self.stop();
        if let Err(log) = self.launch() {
            panic!("influxd did not start again; its log ends with\n{log}");
        }
    }

    /// Writes line protocol. Precision is `ns`, `u`, `ms`, `s`, `m` or `h`; an empty RP is the
    /// database's default.
    #[track_caller]
    pub fn post_write(
        &self,
        db: &str,
        rp: &str,
        body: impl AsRef<[u8]>,
        precision: &str,
    ) -> (u16, String) {
        let (db, rp) = (http::encode(db), http::encode(rp));
        let target = format!("/write?db={db}&rp={rp}&precision={precision}");
        let response = self.request("POST", &target, &[], body.as_ref());
        (response.status, response.text())
    }

    /// Writes line protocol in ns to the default RP, and asserts that all of it was taken.
    #[track_caller]
    pub fn write(&self, db: &str, body: impl AsRef<[u8]>) {
        let (status, reply) = self.post_write(db, "", body, "ns");
        assert_eq!(status, 204, "writing to {db}: {reply}");
    }

    /// The reply to a query, times in ns, after asserting that it holds no error.
    #[track_caller]
    pub fn query(&self, q: &str) -> Value {
        let response = self.query_raw(q);
        let text = response.text();
        assert_eq!(response.status, 200, "query {q}: {text}");
        let reply: Value = serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("query {q}: not JSON, {error}: {text}"));
        let results = reply["results"].as_array();
        let failed = results.is_none_or(|all| all.iter().any(|one| one.get("error").is_some()));
        assert!(!failed && reply.get("error").is_none(), "query {q}: {text}");
        reply
    }

    /// The reply to a query, whatever it is.
    #[track_caller]
    pub fn query_raw(&self, q: &str) -> Response {
        let form = [("Content-Type", "application/x-www-form-urlencoded")];
        let body = format!("q={}&epoch=ns", http::encode(q));
        self.request("POST", "/query", &form, body.as_bytes())
    }

    #[track_caller]
    pub fn create_database(&self, name: &str) {
        self.query(&format!("CREATE DATABASE {}", ident(name)));
    }

    /// How many values the fields of a database's measurements hold, over all of its RPs, where
    /// the measurement's name matches the regular expression (`""` or `.*` for all).
    ///
    /// The server counts a field under one type only: not a check for fields whose type changes.
    #[track_caller]
    pub fn count(&self, db: &str, measurements: &str) -> u64 {
        let regex = measurements.replace('/', "\\/");
        let regex = if regex.is_empty() { ".*" } else { &regex };
        let policies = self.query(&format!("SHOW RETENTION POLICIES ON {}", ident(db)));
        let mut total = 0;
        for policy in rows(&policies) {
            let rp = policy[0].as_str().expect("the name of a retention policy");
            let q = format!("SELECT count(*) FROM {}.{}./{regex}/", ident(db), ident(rp));
            for row in rows(&self.query(&q)) {
                let counts = row.as_array().expect("a row").iter().skip(1);
                total += counts.map(|count| count.as_u64().unwrap_or(0)).sum::<u64>();
            }
        }
        total
    }

    /// Any request, as the admin user when there is one.
    #[track_caller]
    pub fn request(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        http::request(&self.endpoint(), method, target, headers, body).unwrap_or_else(|error| {
            panic!("{method} {target}: {error}; the server's log ends with\n{}", self.log_tail())
        })
    }

    /// What [`http::request`] needs to know of this server.
    pub fn endpoint(&self) -> Endpoint<'_> {
        let user = self.admin.as_ref().map(|(user, password)| (user.as_str(), password.as_str()));
        Endpoint { port: self.port(), ca: self.ca.as_deref(), user }
    }

    /// Standard output of the stock `influx` client, which must end with 0.
    #[track_caller]
    pub fn influx_cli<I>(&self, args: I) -> String
    where
        I: IntoIterator,
        I::Item: AsRef<OsStr>,
    {
        self.influx_cli_run(args).expect_status(0).out()
    }

    /// A run of the stock `influx` client, whatever its end.
    #[track_caller]
    pub fn influx_cli_run<I>(&self, args: I) -> Ran
    where
        I: IntoIterator,
        I::Item: AsRef<OsStr>,
    {
        let port = self.port().to_string();
        let mut client = Gapless::program(tool("influx"), ["-host", "127.0.0.1", "-port", &port])
            .env("HOME", self.dir.path());
        if let Some(ca) = &self.ca {
            client = client.arg("-ssl").env("SSL_CERT_FILE", ca);
        }
        if let Some((user, password)) = &self.admin {
            client = client.env("INFLUX_USERNAME", user).env("INFLUX_PASSWORD", password);
        }
        client.args(args).run()
    }

    /// `influxd backup ARGS DIR` from the snapshot port, with `-portable` among the arguments for
    /// that form; it must end with 0.
    #[track_caller]
    pub fn backup(&self, args: &[&str], dir: &Path) -> Ran {
        let host = format!("127.0.0.1:{}", self.snapshot_port());
        let backup = Gapless::program(tool("influxd"), ["backup", "-host", &host]);
        backup.args(args).arg(dir).run().expect_status(0)
    }

    /// `influxd restore -portable DIR` into this server; it must end with 0. The server enables the shards a
    /// while after the tool has ended.
    #[track_caller]
    pub fn restore(&self, dir: &Path) {
        let host = format!("127.0.0.1:{}", self.snapshot_port());
        let restore = Gapless::program(tool("influxd"), ["restore", "-portable", "-host", &host]);
        restore.arg(dir).run().expect_status(0);
        for name in rows(&self.query("SHOW DATABASES")) {
            let name = ident(name[0].as_str().unwrap_or_default());
            let read = format!("SELECT count(*) FROM {name}../.*/");
            let deadline = Instant::now() + START;
            while self.query_raw(&read).text().contains("shard is disabled") {
                assert!(Instant::now() < deadline, "the shards of {name} stay disabled");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// Has the server write its cache to TSM files, which empties the write-ahead log.
    #[track_caller]
    pub fn flush(&self) {
        let dir = tempfile::tempdir().expect("a dir");
        self.backup(&["-portable"], dir.path());
    }

    /// `influx_inspect export ARGS -out OUT` of the server's files, best of a stopped one; it must
    /// end with 0.
    #[track_caller]
    pub fn export(&self, args: &[&str], out: &Path) -> Ran {
        let (data, wal) = (self.data_dir().join("data"), self.data_dir().join("wal"));
        let export = Gapless::program(tool("influx_inspect"), ["export", "-datadir"]).arg(data);
        export.arg("-waldir").arg(wal).args(args).arg("-out").arg(out).run().expect_status(0)
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("influxd.log")
    }

    fn log_since(&self, offset: u64) -> String {
        let mut bytes = Vec::new();
        let read = fs::File::open(self.log_path()).and_then(|mut file| {
            file.seek(SeekFrom::Start(offset))?;
            file.read_to_end(&mut bytes)
        });
        read.map_or_else(
            |error| format!("(no log: {error})"),
            |_| String::from_utf8_lossy(&bytes).into_owned(),
        )
    }

    /// Starts the process and waits until it answers; the error is the end of its log.
    fn launch(&mut self) -> Result<(), String> {
        let log = OpenOptions::new().create(true).append(true).open(self.log_path());
        let log = log.expect("the server's log");
        let before = log.metadata().expect("the log's size").len();
        let child = Command::new(tool("influxd"))
            .args(["run", "-config"])
            .arg(self.dir.path().join("influxd.conf"))
            .env_clear()
            .env("HOME", self.dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the server's log"))
            .stderr(log)
            .spawn();
        self.child = Some(child.expect("to start influxd"));
        let deadline = Instant::now() + START;
        while !(self.log_since(before).contains(STARTED) && self.answers()) {
            let child = self.child.as_mut().expect("a child");
            let ended = child.try_wait().expect("the state of influxd");
            if ended.is_some() || Instant::now() >= deadline {
                self.kill9();
                let how = ended.map_or(format!("not ready in {START:?}"), |s| s.to_string());
                return Err(format!("{}\n({how})", log_tail(&self.log_since(before))));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn answers(&self) -> bool {
        let reply = http::request(&self.endpoint(), "GET", "/ping", &[], &[]);
        reply.is_ok_and(|reply| reply.status == 204)
    }
}

impl Drop for Influxd {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// A name as an identifier of InfluxQL.
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// All rows of all series of all statements of a reply.
pub fn rows(reply: &Value) -> Vec<&Value> {
    let mut found = Vec::new();
    for result in reply["results"].as_array().into_iter().flatten() {
        for series in result["series"].as_array().into_iter().flatten() {
            let values = series["values"].as_array();
            found.extend(values.unwrap_or_else(|| panic!("no values: {series}")));
        }
    }
    found
}

fn log_tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

/// The stock program `influxd`, `influx` or `influx_inspect`: named by `GAPLESS_INFLUXD` and so on,
/// else as `tests/run` unpacked or built it, else of the PATH, where a server and its client have
/// to be of version 1.6.7.
fn tool(name: &str) -> PathBuf {
    static INFLUXD: OnceLock<PathBuf> = OnceLock::new();
    static INFLUX: OnceLock<PathBuf> = OnceLock::new();
    static INSPECT: OnceLock<PathBuf> = OnceLock::new();
    let found = match name {
        "influxd" => &INFLUXD,
        "influx" => &INFLUX,
        _ => &INSPECT,
    };
    found.get_or_init(|| find_tool(name)).clone()
}

fn find_tool(name: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(format!("GAPLESS_{}", name.to_ascii_uppercase())) {
        return path.into();
    }
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-tools");
    if name == "influx_inspect" {
        let program = tools.join("bin").join(name);
        assert!(program.is_file(), "these tests need influx_inspect 1.8.10: run tests/run");
        return program;
    }
    let unpacked = tools.join("usr/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::iter::once(unpacked).chain(std::env::split_paths(&path));
    for program in dirs.map(|dir| dir.join(name)).filter(|program| program.is_file()) {
        let arg = if name == "influxd" { "version" } else { "-version" };
        let version = Command::new(&program).arg(arg).output();
        if version.is_ok_and(|out| String::from_utf8_lossy(&out.stdout).contains("1.6.7")) {
            return program;
        }
    }
    panic!("these tests need {name} of InfluxDB 1.6.7: run tests/run, which fetches it");
}

/// Writes `ca.pem`, and `server.pem` with `server.key` signed by it; returns the path of `ca.pem`.
fn write_certificates(dir: &Path) -> PathBuf {
    let (authority, path) = (Authority::new(), dir.join("ca.pem"));
    authority.write(&path);
    let identity = authority.issue(&LOOPBACK, (2000, 4000));
    identity.write(&dir.join("server.pem"), &dir.join("server.key"));
    path
}
