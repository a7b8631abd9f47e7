//! What a journal promises, and what becomes of one that was damaged.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::{Arc, atomic::AtomicU64},
};

use super::{
    format::{HEADER, MAX_PAYLOAD, VERSION},
    *,
};
use crate::{
    store::ledger::{AttemptRow, LimitNote, LimitRow, Notes, Who},
    types::{Nanos, Outcome, Usage, UsageSource},
};

/// A call with one attempt. What is opened is lost until it is settled.
pub(in crate::accounting) fn row(id: &str, outcome: Outcome) -> CallRow {
    CallRow {
        id: id.into(),
        at: 1_790_000_000_000,
        instance: "gw-1".into(),
        operation: "chat".into(),
        requested: "assistant".into(),
        model: "gpt-5.5".into(),
        who: Who {
            project: "default".into(),
            key_id: "k1".into(),
            key_name: "research".into(),
            end_user: Some("user-7".into()),
            tags: vec!["a".into(), "b".into()],
            workflow: None,
            session: None,
            step: None,
        },
        client: Some("192.0.2.1".into()),
        stream: true,
        status: if outcome == Outcome::Lost { 0 } else { 200 },
        outcome,
        error_code: None,
        finish_reason: Some("stop".into()),
        first_output_ms: Some(300),
        duration_ms: 1_500,
        overhead_us: 85,
        bytes_in: 1_024,
        bytes_out: 4_096,
        notes: None,
        attempts: vec![AttemptRow {
            number: 1,
            at: 1_790_000_000_001,
            target: "openai/gpt-5.5".into(),
            provider: "openai".into(),
            upstream_model: "gpt-5.5".into(),
            provider_key: 0,
            outcome,
            status: Some(200),
            provider_id: Some("chatcmpl-1".into()),
            usage: Usage { input: 11, output: 7, ..Usage::default() },
            usage_source: UsageSource::Reported,
            cost: Some(Nanos(2_500)),
            reported_cost: None,
            price: "openai/gpt-5.5@2026-04-01".into(),
            service_tier: None,
            first_token_ms: Some(290),
            duration_ms: 1_400,
        }],
    }
}

fn opened(id: &str) -> CallRow {
    row(id, Outcome::Lost)
}

fn settled(id: &str) -> CallRow {
    row(id, Outcome::Ok)
}

const MARKER: u32 = 0x1234_5678;

/// A segment in memory: two calls that ended, and one that did not.
fn segment() -> Vec<u8> {
    let mut buffer = Buffer::new(MARKER);
    for (kind, row) in [
        (Kind::Opened, opened("a")),
        (Kind::Opened, opened("b")),
        (Kind::Settled, settled("a")),
        (Kind::Opened, opened("c")),
        (Kind::Settled, settled("b")),
    ] {
        buffer.push(kind, &row).unwrap();
    }
    [&header(MARKER)[..], buffer.as_bytes()].concat()
}

/// What a folder with these segments comes to: how each call ended, and how many segments were damaged.
fn recovered(segments: &[&[u8]]) -> (BTreeMap<String, Outcome>, usize) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("journal");
    let folder = Folder::create(&root, &Clock::Real).unwrap();
    for (number, bytes) in (1..).zip(segments) {
        fs::write(folder.segment(number), bytes).unwrap();
    }
    drop(folder);
    let mut found = BTreeMap::new();
    for folder in Folder::abandoned(&root).unwrap() {
        let mut recovery = Recovery::begin(folder).unwrap();
        while let Some(batch) = recovery.next_batch().unwrap() {
            for call in batch.rows {
                assert_eq!(batch.lost, call.outcome == Outcome::Lost);
                assert!(call == row(&call.id, call.outcome), "a row that nobody wrote: {call:?}");
                assert!(found.insert(call.id.to_string(), call.outcome).is_none(), "{} twice", call.id);
            }
        }
        recovery.finish();
    }
    let kept = fs::read_dir(root.join("set-aside")).map_or(0, Iterator::count);
    (found, kept)
}

/// The same of one segment, without a disk: as often as there are bytes in it.
fn read(bytes: &[u8]) -> (BTreeMap<String, Outcome>, usize) {
    let mut found = BTreeMap::new();
    let Ok(mut cursor) = Cursor::new(bytes) else { return (found, 1) };
    let mut damaged = 0;
    while let Some(next) = cursor.next(bytes) {
        match next {
            Found::Record(record) => {
                let call = record.row().unwrap();
                assert!(call == row(&call.id, call.outcome), "a row that nobody wrote: {call:?}");
                found.insert(call.id.to_string(), call.outcome);
            }
            Found::Damage { .. } => damaged = 1,
            Found::Tail { .. } => assert_eq!(cursor.next(bytes), None),
        }
    }
    (found, damaged)
}

fn ends(calls: &[(&str, Outcome)]) -> BTreeMap<String, Outcome> {
    calls.iter().map(|(id, outcome)| ((*id).to_owned(), *outcome)).collect()
}

#[test]
fn the_format_is_the_one_that_is_on_disks_already() {
    let text = "a changed row or record needs a new version of the format: old segments cannot be read with this build";
    assert_eq!((VERSION, header(MARKER).len(), segment().len()), (1, 20, 1_169), "{text}");
    assert_eq!(crc32fast::hash(&segment()), 1_307_052_256, "{text}");
}

#[test]
fn notes_are_at_the_end_of_a_record_and_older_builds_read_past_them() {
    let limit = LimitRow {
        quota: "team".into(),
        measure: "usd".into(),
        limit: u64::MAX,
        used: Some(7),
        held: 6,
        settled: 5,
        refused: true,
    };
    let plain = settled("a");
    let about = LimitNote { subject: vec![("key".into(), "k1".into())], would_refuse: true };
    let cases = [
        (Some("seed".into()), vec![], vec![]),
        (None, vec![limit.clone()], vec![]),
        (Some("n".into()), vec![limit.clone()], vec![about.clone()]),
        (None, vec![limit.clone(), limit], vec![about, LimitNote::default()]),
    ];
    for (lossy, limits, about) in cases {
        let noted = CallRow { notes: Notes::new(lossy, limits, about), ..plain.clone() };
        let mut buffer = Buffer::new(MARKER);
        buffer.push(Kind::Settled, &noted).unwrap();
        let bytes = [&header(MARKER)[..], buffer.as_bytes()].concat();
        let mut cursor = Cursor::new(&bytes).unwrap();
        let Some(Found::Record(record)) = cursor.next(&bytes) else { panic!("a record") };
        assert_eq!(record.row().unwrap(), noted);
        // What a build knows that has no notes is what stands before them; it does not look at the rest.
        let (before, after) = (postcard::to_stdvec(&plain).unwrap(), postcard::to_stdvec(&noted).unwrap());
        assert!(after.starts_with(&before) && after.len() > before.len());
        // As do builds that know the first members of the notes.
        let notes = noted.notes.unwrap();
        let (first, rest) = postcard::take_from_bytes::<OldNotes>(&after[before.len()..]).unwrap();
        assert_eq!(first, Some((notes.lossy, notes.limits)));
        assert_eq!(rest, postcard::to_stdvec(&notes.about).unwrap(), "what they do not look at");
    }
    assert_eq!(Notes::new(None, vec![], vec![]), None, "nothing is written where there is nothing");
}

/// Notes as they were before anything was said of whose counters they were.
type OldNotes = Option<(Option<Box<str>>, Vec<LimitRow>)>;

#[test]
fn a_record_whose_notes_say_less_is_still_read() {
    let limit = |quota: &str, used| LimitRow {
        quota: quota.into(),
        measure: "requests".into(),
        limit: 9,
        used,
        held: 1,
        settled: 1,
        refused: false,
    };
    let limits = vec![limit("a", Some(7)), limit("b", None)];
    let plain = settled("a");
    let old: OldNotes = Some((Some("seed".into()), limits.clone()));
    let payload = [postcard::to_stdvec(&plain).unwrap(), postcard::to_stdvec(&old).unwrap()].concat();
    // Marker, length, checksum, kind, as any build writes them.
    let mut record = MARKER.to_le_bytes().to_vec();
    record.extend(u32::try_from(payload.len()).unwrap().to_le_bytes());
    let summed = [&record[4..], &[Kind::Settled as u8], &payload].concat();
    record.extend(crc32fast::hash(&summed).to_le_bytes());
    record.extend(&summed[4..]);

    let bytes = [&header(MARKER)[..], &record].concat();
    let mut cursor = Cursor::new(&bytes).unwrap();
    let Some(Found::Record(record)) = cursor.next(&bytes) else { panic!("a record") };
    let notes = record.row().unwrap().notes.unwrap();
    assert_eq!((notes.lossy.as_deref(), notes.limits, notes.about), (Some("seed"), limits, vec![]));
    assert_eq!(record.row().unwrap().attempts, plain.attempts);
    assert_eq!(cursor.next(&bytes), None);
}

#[test]
fn a_call_that_ended_is_its_row_and_one_that_did_not_is_lost() {
    let expected = ends(&[("a", Outcome::Ok), ("b", Outcome::Ok), ("c", Outcome::Lost)]);
    assert_eq!(recovered(&[&segment()]), (expected, 0));
    assert_eq!(recovered(&[&[]]), (BTreeMap::new(), 0), "a file in which nothing was written yet");
    assert_eq!(recovered(&[&header(MARKER)]), (BTreeMap::new(), 0));
}

#[test]
fn the_last_opened_of_a_call_counts_and_its_end_may_be_in_another_segment() {
    let mut buffer = Buffer::new(MARKER);
    let mut again = opened("c");
    again.attempts.push(AttemptRow { number: 2, ..again.attempts[0].clone() });
    buffer.push(Kind::Opened, &again).unwrap();
    buffer.push(Kind::Opened, &opened("d")).unwrap();
    let second = [&header(MARKER)[..], buffer.as_bytes()].concat();
    buffer.clear();
    buffer.push(Kind::Settled, &settled("d")).unwrap();
    let third = [&header(MARKER)[..], buffer.as_bytes()].concat();

    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::create(dir.path(), &Clock::Real).unwrap();
    for (number, bytes) in [(1, segment()), (2, second), (10, third)] {
        fs::write(folder.segment(number), bytes).unwrap();
    }
    let mut recovery = Recovery::begin(folder).unwrap();
    let mut rows = Vec::new();
    while let Some(batch) = recovery.next_batch().unwrap() {
        rows.extend(batch.rows);
    }
    assert!(recovery.finish().is_none());
    let ids: Vec<_> = rows.iter().map(|row| &*row.id).collect();
    assert_eq!(ids, ["a", "b", "d", "c"]);
    assert_eq!(rows[3].attempts.len(), 2);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left of it");
}

#[test]
fn a_segment_cut_at_any_byte_gives_what_was_whole_and_is_no_damage() {
    let bytes = segment();
    let mut cursor = Cursor::new(&bytes).unwrap();
    let mut records = Vec::new();
    while let Some(Found::Record(record)) = cursor.next(&bytes) {
        records.push((record.end(), record.kind, record.id().unwrap().to_owned()));
    }
    assert_eq!(records.len(), 5);
    for cut in 0..bytes.len() {
        let mut expected = BTreeMap::new();
        for (_, kind, id) in records.iter().filter(|(end, ..)| *end <= cut) {
            expected.insert(id.clone(), if *kind == Kind::Opened { Outcome::Lost } else { Outcome::Ok });
        }
        assert_eq!(read(&bytes[..cut]), (expected.clone(), 0), "cut at {cut}");
        if cut % 97 == 0 {
            assert_eq!(recovered(&[&bytes[..cut]]), (expected, 0), "cut at {cut}");
        }
    }
    let zeros = [&bytes[..bytes.len() - 3], &[0; 3]].concat();
    assert_eq!(recovered(&[&zeros]).1, 1, "zeros in a record are damage");
    let zeros = [&bytes[..], &[0; 300]].concat();
    assert_eq!(recovered(&[&zeros]).1, 0, "room that was never filled is not");
}

#[test]
fn a_flipped_byte_costs_one_record_and_nothing_else() {
    let bytes = segment();
    let whole = recovered(&[&bytes]).0;
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        let (found, damaged) = read(&flipped);
        if at % 97 == 0 {
            assert_eq!(recovered(&[&flipped]), (found.clone(), damaged), "byte {at}");
        }
        let other: Vec<_> = whole.iter().filter(|(id, outcome)| found.get(*id) != Some(outcome)).collect();
        assert!(other.len() <= 1, "byte {at}: {found:?}");
        // One call may have lost its end, or both its records if one of them is all there was.
        if let Some((id, _)) = other.first() {
            assert!(id.as_str() == "c" || found.get(*id) == Some(&Outcome::Lost), "byte {at}: {found:?}");
        }
        // In the length of the last record it looks like a record that was not written to its end.
        let of_last = bytes.len() - 260..bytes.len() - 200;
        assert!(damaged == 1 || of_last.contains(&at), "byte {at} was not noticed");
    }
}

#[test]
fn what_follows_any_damage_is_read() {
    let bytes = segment();
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..30 {
        let from = random.usize(HEADER..bytes.len() / 2);
        let mut damaged = bytes.clone();
        match random.u8(0..3) {
            0 => drop(damaged.drain(from..from + 100)),
            1 => damaged[from..from + 200].fill_with(|| random.u8(..)),
            _ => drop(damaged.splice(from..from, (0..50).map(|_| 0xff))),
        }
        let (found, kept) = recovered(&[&damaged]);
        assert_eq!((found.get("b"), kept), (Some(&Outcome::Ok), 1));
    }
}

#[test]
fn a_client_cannot_write_records() {
    let mut inner = Buffer::new(MARKER + 1);
    inner.push(Kind::Settled, &settled("evil")).unwrap();
    // The checksum is right; the marker is one that the client had to guess.
    let mut call = opened("a");
    let text: String = inner.as_bytes().iter().map(|byte| char::from(*byte)).collect();
    call.requested = text.into();
    let mut outer = Buffer::new(MARKER);
    outer.push(Kind::Opened, &call).unwrap();
    let mut bytes = [&header(MARKER)[..], outer.as_bytes()].concat();
    bytes[HEADER + 5] ^= 1;
    assert_eq!(recovered(&[&bytes]).0, BTreeMap::new());
}

#[test]
fn a_segment_of_another_version_stays_and_so_do_the_calls_that_may_have_ended_in_it() {
    let mut foreign = segment();
    foreign[8] = 2;
    let sum = crc32fast::hash(&foreign[..16]);
    foreign[16..20].copy_from_slice(&sum.to_le_bytes());
    assert_eq!(Cursor::new(&foreign).unwrap_err(), Unreadable::Version(2));

    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::create(dir.path(), &Clock::Real).unwrap();
    let path = folder.path().to_owned();
    fs::write(folder.segment(1), segment()).unwrap();
    fs::write(folder.segment(2), &foreign).unwrap();
    let mut recovery = Recovery::begin(folder).unwrap();
    let batch = recovery.next_batch().unwrap().unwrap();
    assert_eq!(batch.rows.iter().map(|row| &*row.id).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(recovery.next_batch().unwrap(), None, "c may have ended in the segment that cannot be read");
    assert!(recovery.finish().is_some());
    assert!(path.join("00000001.seg").exists() && path.join("00000002.seg").exists());
}

#[test]
fn what_is_no_segment_is_kept_aside() {
    let (found, kept) = recovered(&[b"this is a text that somebody put here, for whatever reason", &segment()]);
    assert_eq!((found.len(), kept), (3, 1));
}

#[test]
fn a_record_has_a_bound_and_a_buffer_grows_up_to_it() {
    let mut buffer = Buffer::new(MARKER);
    let long = CallRow { requested: "x".repeat(MAX_PAYLOAD / 2).into(), ..opened("a") };
    buffer.push(Kind::Opened, &long).unwrap();
    let before = buffer.as_bytes().len();
    let longer = CallRow { requested: "x".repeat(MAX_PAYLOAD).into(), ..opened("b") };
    assert_eq!(buffer.push(Kind::Opened, &longer), Err(TooLarge));
    assert_eq!(buffer.as_bytes().len(), before);
    buffer.push(Kind::Settled, &settled("c")).unwrap();
    assert_eq!(recovered(&[&[&header(MARKER)[..], &buffer.as_bytes()[before..]].concat()]).0.len(), 1);
}

#[test]
fn a_folder_has_one_owner_and_another_when_that_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let one = Folder::create(dir.path(), &Clock::Real).unwrap();
    let two = Folder::create(dir.path(), &Clock::Real).unwrap();
    fs::create_dir(dir.path().join("set-aside")).unwrap();
    assert!(Folder::abandoned(dir.path()).unwrap().is_empty());
    let path = one.path().to_owned();
    drop(one);
    let found = Folder::abandoned(dir.path()).unwrap();
    assert_eq!(found.iter().map(Folder::path).collect::<Vec<_>>(), [path]);
    assert!(Folder::abandoned(dir.path()).unwrap().is_empty(), "it has a new owner");
    assert!(found[0].remove_if_empty() && !found[0].path().exists());
    drop(two);
}

#[test]
fn segments_go_when_nothing_in_them_is_wanted_wherever_they_stand() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path(), 64 << 20, Clock::Real).unwrap();
    let large = |id: &str, outcome| CallRow { requested: "x".repeat(MAX_PAYLOAD / 2).into(), ..row(id, outcome) };
    assert!(journal.opened(&opened("stream")));
    let mut places = Vec::new();
    for index in 0..40 {
        let id = index.to_string();
        assert!(journal.opened(&large(&id, Outcome::Lost)));
        places.push((id.clone(), journal.settled(&[large(&id, Outcome::Ok)])[0]));
    }
    assert!(journal.segments() >= 4, "{}", journal.segments());
    let unshipped: BTreeSet<_> = places.iter().map(|(_, segment)| journal.folder.segment(segment.unwrap())).collect();
    assert!(journal.finished(false).iter().all(|path| !unshipped.contains(path)), "nothing has been shipped");
    for (id, segment) in &places {
        journal.shipped(id, *segment);
    }
    let gone = journal.finished(false);
    assert_eq!(journal.segments(), 2, "the first, for the stream, and the one that is written to");
    assert!(gone.iter().all(|path| path.exists() && !path.ends_with("00000001.seg")));
    let before = journal.bytes();
    let segment = journal.settled(&[settled("stream")])[0];
    journal.shipped("stream", segment);
    assert_eq!(journal.finished(true).len(), 3);
    assert!(journal.bytes() == 0 && before > SEGMENT);
}

#[test]
fn long_calls_are_carried_out_of_segments_that_hold_little_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path(), 128 << 10, Clock::Real).unwrap();
    let mut streams = Vec::new();
    for index in 0..1_000 {
        if index % 50 == 0 {
            assert!(journal.opened(&opened(&format!("stream-{index}"))));
            streams.push(format!("stream-{index}"));
        }
        let id = index.to_string();
        assert!(journal.opened(&opened(&id)));
        let segment = journal.settled(&[settled(&id)])[0];
        journal.shipped(&id, segment);
        journal.finished(false);
        let Some((number, path, ids)) = journal.sparse() else { continue };
        for row in SegmentRows::open(&path).unwrap().unwrap().opened(&ids) {
            journal.carry(number, &row);
        }
        journal.finished(false);
        assert!(!journal.segments.contains_key(&number), "it is not wanted any more");
    }
    assert!(journal.bytes() < 100 << 10, "{}", journal.bytes());
    drop(journal);
    let mut recovery = Recovery::begin(Folder::abandoned(dir.path()).unwrap().remove(0)).unwrap();
    let mut lost = BTreeSet::new();
    while let Some(batch) = recovery.next_batch().unwrap() {
        lost.extend(batch.rows.into_iter().filter(|_| batch.lost).map(|row| row.id.to_string()));
    }
    assert!(streams.iter().all(|id| lost.contains(id)), "no call under way was left out");
}

#[test]
fn a_second_attempt_releases_the_segment_of_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path(), 64 << 20, Clock::Real).unwrap();
    assert!(journal.opened(&opened("a")) && journal.opened(&opened("a")));
    journal.active = None;
    assert!(journal.opened(&opened("a")));
    assert_eq!(journal.finished(false), [journal.folder.segment(1)]);
    // Its end could not be written: the `opened` is wanted until the row is in the store.
    journal.active = None;
    assert!(journal.finished(false).is_empty());
    journal.shipped("a", None);
    assert_eq!(journal.finished(false), [journal.folder.segment(2)]);
}

#[test]
fn at_the_bound_calls_are_turned_away_before_their_ends_are() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path(), 16 << 10, Clock::Real).unwrap();
    let opens = (0..100).take_while(|index| journal.opened(&opened(&index.to_string()))).count();
    assert!((40..90).contains(&opens) && !journal.is_writable(), "{opens}");
    let ends = (0..100).take_while(|index| journal.settled(&[settled(&index.to_string())])[0].is_some()).count();
    assert!((5..20).contains(&ends), "the last eighth is theirs: {ends}");
    assert!(!journal.opened(&opened("late")));
    let on_disk: u64 = journal.folder.segments().unwrap().iter().map(|segment| segment.bytes).sum();
    assert!(on_disk == journal.bytes() && on_disk <= 16 << 10);
    journal.active = None;
    for index in 0..opens {
        journal.shipped(&index.to_string(), if index < ends { Some(1) } else { None });
    }
    assert_eq!(journal.finished(false).len(), 1);
    assert!(journal.is_writable() && journal.opened(&opened("late")));
}

#[test]
fn what_dead_gateways_left_counts_against_the_bound() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path(), 16 << 20, Clock::Real).unwrap();
    journal.inherit(16 << 20);
    assert!(!journal.opened(&opened("a")));
    journal.inherit(0);
    assert!(journal.opened(&opened("a")));
}

#[test]
fn a_full_disk_is_left_alone_for_a_while_and_costs_no_record_that_was_whole() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::held();
    let mut journal = Journal::open(dir.path(), 64 << 20, clock.clone()).unwrap();
    let room = Arc::new(AtomicU64::new(1_000));
    journal.room = Some(room.clone());
    let opens = (0..10).take_while(|index| journal.opened(&opened(&index.to_string()))).count();
    assert!((2..6).contains(&opens), "{opens}");
    room.store(u64::MAX, std::sync::atomic::Ordering::Relaxed);
    assert!(!journal.opened(&opened("soon")), "it is not asked again at once");
    assert!(!journal.is_writable());
    clock.advance(PAUSE);
    assert!(journal.opened(&opened("later")) && journal.is_writable());
    let root = dir.path();
    drop(journal);
    let mut recovery = Recovery::begin(Folder::abandoned(root).unwrap().remove(0)).unwrap();
    let mut ids = BTreeSet::new();
    while let Some(batch) = recovery.next_batch().unwrap() {
        ids.extend(batch.rows.into_iter().map(|row| row.id.to_string()));
    }
    assert_eq!(ids, (0..opens).map(|index| index.to_string()).chain(["later".to_owned()]).collect());
    recovery.finish();
    assert!(!root.join("set-aside").exists(), "half a record at the end is no damage");
}
