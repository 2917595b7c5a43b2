//! Tables in Parquet files: they mean what the same tables in CSV files mean, and broken ones are refused.

#![cfg(feature = "parquet")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use parquet::data_type::{
    ByteArray, ByteArrayType, DoubleType, FixedLenByteArrayType, Int32Type, Int64Type, Int96, Int96Type,
};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use proptest::prelude::*;
use sterna_simulator::run;
use sterna_simulator::scenario::{self, Scenario, load};

/// 2026-03-02, midnight, in seconds.
const MIDNIGHT: i64 = 1_772_409_600;

/// A column's values; of texts also that there is none.
enum Column {
    Ints(Vec<i32>),
    Longs(Vec<i64>),
    Old(Vec<Int96>),
    Doubles(Vec<f64>),
    Texts(Vec<Option<String>>),
    Fixed(Vec<[u8; 3]>),
    /// In the first of two rows.
    OneListOfThree,
}

fn properties(compression: Compression) -> WriterProperties {
    WriterProperties::builder().set_compression(compression).build()
}

/// A file with these columns, in as many groups of rows as there are lists of them.
fn file(schema: &str, groups: &[Vec<Column>], properties: WriterProperties) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(&format!("message rows {{ {schema} }}")).unwrap());
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, properties.into()).unwrap();
    for columns in groups {
        let mut group = writer.next_row_group().unwrap();
        for values in columns {
            let mut column = group.next_column().unwrap().unwrap();
            match values {
                Column::Ints(values) => column.typed::<Int32Type>().write_batch(values, None, None),
                Column::Longs(values) => column.typed::<Int64Type>().write_batch(values, None, None),
                Column::Old(values) => column.typed::<Int96Type>().write_batch(values, None, None),
                Column::Doubles(values) => column.typed::<DoubleType>().write_batch(values, None, None),
                Column::Texts(values) => {
                    let there: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
                    let values: Vec<ByteArray> =
                        values.iter().flatten().map(|text| ByteArray::from(text.as_str())).collect();
                    column.typed::<ByteArrayType>().write_batch(&values, Some(&there), None)
                }
                Column::OneListOfThree => column.typed::<Int64Type>().write_batch(
                    &[7, 8, 9],
                    Some(&[1, 1, 1, 0]),
                    Some(&[0, 1, 1, 0]),
                ),
                Column::Fixed(values) => {
                    let values: Vec<_> =
                        values.iter().map(|bytes| ByteArray::from(bytes.to_vec()).into()).collect();
                    column.typed::<FixedLenByteArrayType>().write_batch(&values, None, None)
                }
            }
            .unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
    }
    writer.close().unwrap();
    bytes
}

/// A CSV file as Parquet: columns of numbers as such, all others as text.
fn converted(text: &str) -> Vec<u8> {
    let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_reader(text.as_bytes());
    let names: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let mut schema = String::new();
    let columns = names.iter().enumerate().map(|(at, name)| {
        let numbers: Result<Vec<f64>, _> = rows.iter().map(|row| row[at].parse::<f64>()).collect();
        match numbers {
            Ok(numbers) => {
                schema += &format!("required double {name}; ");
                Column::Doubles(numbers)
            }
            Err(_) => {
                schema += &format!("optional binary {name} (UTF8); ");
                Column::Texts(rows.iter().map(|row| Some(row[at].to_owned())).collect())
            }
        }
    });
    let columns = columns.collect();
    file(&schema, &[columns], properties(Compression::SNAPPY))
}

/// Hours from midnight on with a value each, in two groups of rows.
fn hours(values: &[f64], compression: Compression) -> Vec<u8> {
    let mut first = 0;
    let groups = values.chunks(values.len().div_ceil(2)).map(|values| {
        let from = first;
        first += i64::try_from(values.len()).unwrap();
        let times = (from..first).map(|hour| (MIDNIGHT + hour * 3600) * 1000).collect();
        let notes = values.iter().enumerate().map(|(at, _)| (at == 0).then(|| "#1, \"seen\"".to_owned()));
        vec![Column::Longs(times), Column::Doubles(values.to_vec()), Column::Texts(notes.collect())]
    });
    let schema =
        "required int64 time (TIMESTAMP_MILLIS); required double value; optional binary note (UTF8);";
    file(schema, &groups.collect::<Vec<_>>(), properties(compression))
}

fn text(bytes: Vec<u8>) -> Result<String, String> {
    scenario::text(Path::new("x.parquet"), bytes).map_err(|error| error.to_string())
}

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

/// A shipped scenario as it is, or with its CSV files made into Parquet.
fn read(name: &str, as_parquet: bool) -> Scenario {
    let folder = shipped().join(name);
    let mut written = std::fs::read_to_string(folder.join("scenario.toml")).unwrap();
    if as_parquet {
        written = written.replace(".csv\"", ".parquet\"");
    }
    let beside = |path: &Path| {
        let bytes = match path.extension().and_then(|end| end.to_str()) {
            Some("parquet") => {
                converted(&std::fs::read_to_string(folder.join(path.with_extension("csv"))).unwrap())
            }
            _ => std::fs::read(folder.join(path))?,
        };
        scenario::text(path, bytes)
    };
    load::load("scenario.toml", &written, &beside).unwrap().scenario
}

/// The day of commuters, with the carbon intensity of an edge from a file of these bytes.
fn carbon(bytes: &[u8]) -> Result<Scenario, String> {
    let beside = |path: &Path| match path.to_str() {
        Some("carbon.parquet") => scenario::text(path, bytes.to_vec()),
        _ => std::fs::read_to_string(shipped().join(path)),
    };
    let written = std::fs::read_to_string(shipped().join("commuters.toml")).unwrap()
        + "[[carbon]]\nsite = \"edge-north\"\nfile = \"carbon.parquet\"\nunit = \"g/kWh\"\n";
    let read = load::load("commuters.toml", &written, &beside);
    read.map(|read| read.scenario).map_err(|invalid| invalid.report().lines())
}

#[test]
fn a_scenario_over_parquet_has_the_report_of_the_same_over_csv() {
    let policy = std::fs::read_to_string(shipped().join("price-spike/policy.toml")).unwrap();
    let policy = sterna_policies::load::policy("policy.toml", &policy).unwrap().value;
    let report = |as_parquet| {
        let scenario = read("price-spike", as_parquet);
        run::compare(&scenario, std::slice::from_ref(&policy), 7, &mut |_, _| {}).unwrap()
    };
    let (csv, parquet) = (report(false), report(true));
    assert!(!csv.outcomes[0].moves.is_empty());
    assert_eq!(csv.hash().unwrap(), parquet.hash().unwrap());
}

#[test]
fn series_and_tracks_of_users_come_from_parquet() {
    let (csv, parquet) = (read("follow-the-sun", false), read("follow-the-sun", true));
    assert!(csv.tracks.carbon.len() >= 4);
    assert_eq!(csv.tracks.carbon, parquet.tracks.carbon);
    let (csv, parquet) = (read("melbourne", false), read("melbourne", true));
    assert_eq!(csv.chance.people, parquet.chance.people);
}

#[test]
fn it_is_read_as_the_csv_that_it_could_be() {
    let zstd = Compression::ZSTD(ZstdLevel::default());
    let gzip = Compression::GZIP(GzipLevel::default());
    for compression in [Compression::UNCOMPRESSED, Compression::SNAPPY, zstd, gzip] {
        let read = text(hours(&[220.0, 180.5, 90.0], compression)).unwrap();
        assert_eq!(
            read,
            "time,value,note\n\
             2026-03-02T00:00:00Z,220,\"#1, \"\"seen\"\"\"\n\
             2026-03-02T01:00:00Z,180.5,\n\
             2026-03-02T02:00:00Z,90,\"#1, \"\"seen\"\"\"\n"
        );
    }
    let scenario = carbon(&hours(&[220.0, 180.5, 90.0], Compression::SNAPPY)).unwrap();
    let values: Vec<i64> = scenario.tracks.carbon[&"edge-north".into()].values().collect();
    assert_eq!(values, [220_000_000, 180_500_000, 90_000_000]);
}

#[test]
fn times_and_numbers_are_read_as_programs_write_them() {
    let mut old = Int96::new();
    let nanos: u64 = 3600 * 1_000_000_000;
    old.set_data(u32::try_from(nanos & 0xffff_ffff).unwrap(), u32::try_from(nanos >> 32).unwrap(), 2_461_102);
    let schema = "required int64 nanos (TIMESTAMP(NANOS,false)); required int64 micros (TIMESTAMP(MICROS,true)); \
                  required int96 old; required int32 day (DATE); required int64 bare; required int32 unsigned (UINT_32); \
                  required int32 small (DECIMAL(5,2)); required fixed_len_byte_array(3) wide (DECIMAL(6,4)); \
                  required double high;";
    let columns = vec![
        Column::Longs(vec![MIDNIGHT * 1_000_000_000 + 500_000_000]),
        Column::Longs(vec![MIDNIGHT * 1_000_000 + 1]),
        Column::Old(vec![old]),
        Column::Ints(vec![i32::try_from(MIDNIGHT / 86_400).unwrap()]),
        Column::Longs(vec![-5]),
        Column::Ints(vec![-1]),
        Column::Ints(vec![-105]),
        Column::Fixed(vec![[0xff, 0xff, 0xfe]]),
        Column::Doubles(vec![1e21]),
    ];
    let read = text(file(schema, &[columns], properties(Compression::SNAPPY))).unwrap();
    assert_eq!(
        read,
        "nanos,micros,old,day,bare,unsigned,small,wide,high\n\
         2026-03-02T00:00:00.5Z,2026-03-02T00:00:00.000001Z,2026-03-02T01:00:00Z,2026-03-02T00:00:00Z,\
         -5,4294967295,-1.05,-0.0002,1000000000000000000000\n"
    );
    let far = vec![Column::Longs(vec![i64::MAX])];
    let told = text(file("required int64 time (TIMESTAMP_MILLIS);", &[far], properties(Compression::SNAPPY)));
    assert_eq!(
        told.unwrap_err(),
        "it is no Parquet that can be read: column `time`: a time is on no calendar"
    );
}

#[test]
fn what_has_parts_is_left_out() {
    let schema = "required group where { required double lat; } repeated int64 list; required double value;";
    let columns =
        vec![Column::Doubles(vec![1.0, 2.0]), Column::OneListOfThree, Column::Doubles(vec![3.0, 4.0])];
    let read = text(file(schema, &[columns], properties(Compression::SNAPPY))).unwrap();
    assert_eq!(read, "value\n3\n4\n");
}

#[test]
fn what_is_wrong_is_told_by_file_row_and_column() {
    let told = carbon(&hours(&[220.0, -3.0], Compression::SNAPPY)).unwrap_err();
    assert!(told.starts_with("carbon.parquet:3:22: error[S0012]: `-3` can't be used"), "{told}");
    let missing = vec![
        Column::Longs(vec![MIDNIGHT * 1000, (MIDNIGHT + 60) * 1000]),
        Column::Texts(vec![Some("5".to_owned()), None]),
    ];
    let schema = "required int64 time (TIMESTAMP_MILLIS); optional binary value (UTF8);";
    let told = carbon(&file(schema, &[missing], properties(Compression::SNAPPY))).unwrap_err();
    assert!(told.starts_with("carbon.parquet:3:1: error[S0012]: `` can't be used"), "{told}");
    for broken in [&b"PAR1 and nothing else"[..], b"", b"time,value\n0,5\n"] {
        let told = carbon(broken).unwrap_err();
        let file = "can't read carbon.parquet: it is no Parquet that can be read:";
        assert!(told.starts_with("commuters.toml:") && told.contains(file), "{told}");
    }
    // Whatever its name is.
    let read = scenario::text(Path::new("values"), hours(&[1.0], Compression::SNAPPY)).unwrap();
    assert!(read.starts_with("time,value,note\n"), "{read}");
}

#[test]
fn a_file_that_is_cut_off_is_refused() {
    let whole = hours(&[220.0, 180.5, 90.0], Compression::SNAPPY);
    for at in 0..whole.len() {
        text(whole[..at].to_vec()).unwrap_err();
    }
}

#[test]
fn whatever_byte_is_another_nothing_panics() {
    let zstd = Compression::ZSTD(ZstdLevel::default());
    for compression in [Compression::UNCOMPRESSED, Compression::SNAPPY, zstd] {
        let whole = hours(&[220.0, 180.5, 90.0], compression);
        for at in 0..whole.len() {
            for flipped in [0x01, 0x10, 0x80, 0xff] {
                let mut broken = whole.clone();
                broken[at] ^= flipped;
                let _refused_or_read = text(broken);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_bytes_are_others_nothing_panics(
        compressed: bool,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let compression = if compressed { Compression::SNAPPY } else { Compression::UNCOMPRESSED };
        let mut broken = hours(&[220.0, 180.5, 90.0, 1.0, 1.0, 1.0], compression);
        for (at, byte) in changes {
            let at = at.index(broken.len());
            broken[at] = byte;
        }
        let _refused_or_read = text(broken);
    }

    #[test]
    fn values_arrive_as_they_were_written(values in prop::collection::vec(0.0..1e6f64, 1..400)) {
        let read = text(hours(&values, Compression::SNAPPY)).unwrap();
        let arrived = csv::Reader::from_reader(read.as_bytes())
            .records()
            .map(|row| row.unwrap()[1].parse::<f64>().unwrap())
            .collect::<Vec<_>>();
        prop_assert_eq!(arrived, values);
    }
}
