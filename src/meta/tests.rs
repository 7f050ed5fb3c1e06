//! Meta stores and their frames, made here field by field.

use super::*;

/// A field of a number.
fn number(tag: u8, value: i64) -> Vec<u8> {
    let mut out = vec![tag << 3];
    let mut rest = value.cast_unsigned();
    while rest >= 0x80 {
        out.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
        rest >>= 7;
    }
    out.push(u8::try_from(rest).unwrap());
    out
}

/// A field of bytes, at most 127.
fn bytes(tag: u8, content: &[u8]) -> Vec<u8> {
    [&[tag << 3 | 2, u8::try_from(content.len()).unwrap()], content].concat()
}

fn group() -> Vec<u8> {
    let shard = [number(1, 7), bytes(3, &number(1, 2)), number(2, 1)].concat();
    [number(1, 3), number(2, -5), number(3, 10), number(6, 9), bytes(5, &shard)].concat()
}

fn rp() -> Vec<u8> {
    [bytes(1, b"week"), number(2, 99), number(3, 33), number(4, 2), bytes(5, &group())].concat()
}

fn store() -> Vec<u8> {
    let query = [bytes(1, b"cq"), bytes(2, b"CREATE ... END")].concat();
    let database = [bytes(1, b"db"), bytes(2, b"week"), bytes(3, &rp()), bytes(4, &query)].concat();
    let grant = [bytes(1, b"db"), number(2, 1)].concat();
    let user = [bytes(1, b"ann"), bytes(2, b"$2a$10$"), number(3, 0), bytes(4, &grant)].concat();
    [number(1, 1), bytes(5, &database), bytes(6, &user), number(9, 7), bytes(15, b"later")].concat()
}

#[test]
fn a_store_is_read_and_what_it_has_beyond_is_skipped() {
    let meta = decode(&store()).unwrap();
    let [database] = &meta.databases[..] else { panic!("{meta:?}") };
    assert_eq!((&*database.name, &*database.default_rp), ("db", "week"));
    assert_eq!(database.continuous_queries[0].name, "cq");
    let rp = &database.rps[0];
    assert_eq!((&*rp.name, rp.duration, rp.shard_duration, rp.replication), ("week", 99, 33, 2));
    let group = &rp.groups[0];
    assert_eq!(group.window(), Window { start: -5, end: 10 });
    assert_eq!((group.id, group.deleted_at, group.truncated_at), (3, None, Some(9)));
    assert_eq!(group.shards, [Shard { id: 7, owners: vec![1, 2] }]);
    let user = &meta.users[0];
    assert_eq!((&*user.name, user.admin), ("ann", false));
    assert_eq!(user.privileges, [("db".to_owned(), Privilege::Read)]);
}

#[test]
fn the_first_group_is_open_to_the_past() {
    let mut group = decode(&store()).unwrap().databases[0].rps[0].groups[0].clone();
    (group.start, group.end) = (i64::MAX - 1000, i64::MIN + 1000);
    assert_eq!(group.window(), Window { start: TIME_MIN, end: i64::MIN + 1000 });
}

#[test]
fn what_is_no_store_is_refused_at_every_cut() {
    let store = store();
    let whole = decode(&store).unwrap();
    for cut in 0..store.len() {
        // A cut between two fields cannot be told; what is there is then less, never something else.
        if let Ok(meta) = decode(&store[..cut]) {
            assert!(meta.databases.len() + meta.users.len() < 2 || meta == whole, "{cut}");
        }
    }
    assert!(decode(b"").unwrap_err().reason.contains("empty"));
    assert!(decode(b"not a message").is_err());
    let nameless = decode(&bytes(5, &bytes(2, b"rp"))).unwrap_err();
    assert!(nameless.reason.contains("a database has no name"), "{nameless}");
    let grant = bytes(4, &number(2, 9));
    let unknown = decode(&bytes(6, &[bytes(1, b"ann"), grant].concat())).unwrap_err();
    assert!(unknown.reason.contains("unknown privilege 9"), "{unknown}");
}

#[test]
fn a_framed_store_is_unwrapped_or_refused() {
    let mut frame = vec![0, 0, 0, 0, 0x59, 0x59, 1, 1, 0, 0, 0, 0, 0, 0, 0, 2, b'm', b'm'];
    frame.extend([0, 0, 0, 0, 0, 0, 0, 5]);
    frame.extend(b"null\n");
    let unwrapped = backup::framed(&frame).unwrap();
    assert_eq!(unwrapped, backup::Framed { meta: b"mm", node: b"null\n" });
    for cut in 0..frame.len() {
        assert!(backup::framed(&frame[..cut]).is_err(), "{cut}");
    }
    assert!(backup::framed(&[&frame[..], b"x"].concat()).is_err());
    frame[7] = 2;
    assert!(backup::framed(&frame).unwrap_err().reason.contains("magic"));
}

#[test]
fn a_packet_is_unwrapped_or_refused() {
    let packet = [bytes(1, &store()[..90]), number(2, 0)].concat();
    assert_eq!(backup::packet(&packet).unwrap(), &store()[..90]);
    assert!(backup::packet(b"").unwrap_err().reason.contains("no meta store"));
    assert!(backup::packet(&packet[..20]).is_err());
}

#[test]
fn a_manifest_is_read_as_servers_write_it() {
    let text = br#"{
  "meta": {"fileName": "20200102T030405Z.meta", "size": 250},
  "limited": false,
  "files": [
    {"database": "db", "policy": "week", "shardID": 7,
     "fileName": "20200102T030405Z.s7.tar.gz", "size": 2048, "lastModified": 0}
  ]
}"#;
    let manifest = backup::Manifest::read(text).unwrap();
    assert_eq!((&*manifest.meta.name, manifest.meta.size), ("20200102T030405Z.meta", 250));
    let [file] = &manifest.files[..] else { panic!("{manifest:?}") };
    assert_eq!((&*file.database, &*file.policy, file.shard, file.size), ("db", "week", 7, 2048));
    let none = br#"{"meta":{"fileName":"m","size":1},"limited":false,"files":null}"#;
    assert_eq!(backup::Manifest::read(none).unwrap().files, []);
}

#[test]
fn a_manifest_that_names_files_elsewhere_or_is_none_is_refused() {
    let elsewhere = br#"{"meta":{"fileName":"../m","size":1},"limited":false,"files":null}"#;
    let damage = backup::Manifest::read(elsewhere).unwrap_err();
    assert!(damage.reason.contains("no name of a file beside it"), "{damage}");
    let damage = backup::Manifest::read(b"{\n\"meta\": 5}").unwrap_err();
    assert!(damage.reason.contains("no manifest") && damage.offset > 2, "{damage}");
}
