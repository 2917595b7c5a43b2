//! Parquet as the CSV that it could be: the names of the columns, and below them a line for each row.
//!
//! All else reads that text, so that a value is judged alike whatever file it came in; what is wrong with one is told by its line there,
//! the first row being line 2.

use std::cell::Cell;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use bytes::Bytes;
use jiff::Timestamp;
use parquet::basic::{ConvertedType, LogicalType, TimeUnit};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{DataType, Int96};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;

/// Rows that are read at a time.
const BATCH: usize = 4096;
/// The most values that are read: a year of minutes in 60 columns.
const MOST_VALUES: usize = 32_000_000;
/// Seconds in a day.
const DAY: i64 = 86_400;

/// The rows of a Parquet file as CSV. Times become points in time, those without a zone of UTC; what is missing becomes empty. Columns
/// of lists and structures are left out.
///
/// # Errors
/// When it is no Parquet, is broken, or is compressed in a way that is not read.
pub(super) fn as_csv(bytes: Vec<u8>) -> io::Result<String> {
    guarded(|| rows(bytes))
}

fn rows(bytes: Vec<u8>) -> io::Result<String> {
    let file = SerializedFileReader::new(Bytes::from(bytes)).map_err(unusable)?;
    let schema = file.metadata().file_metadata().schema_descr();
    let flat = |column: &ColumnDescriptor| column.path().parts().len() == 1 && column.max_rep_level() == 0;
    let columns: Vec<usize> = (0..schema.num_columns()).filter(|at| flat(&schema.column(*at))).collect();
    // What begins like a comment is put in quotes.
    let mut writer = csv::WriterBuilder::new().comment(Some(b'#')).from_writer(Vec::new());
    writer.write_record(columns.iter().map(|at| schema.column(*at).name().to_owned()))?;
    let mut values = 0usize;
    for number in 0..file.num_row_groups() {
        let group = file.get_row_group(number).map_err(unusable)?;
        let mut readers = Vec::new();
        for at in &columns {
            let column = schema.column(*at);
            let reader = group.get_column_reader(*at).map_err(|why| of_column(&column, why))?;
            readers.push((column, reader));
        }
        let mut read = 0usize;
        loop {
            let mut batch: Vec<std::vec::IntoIter<String>> = Vec::new();
            for (column, reader) in &mut readers {
                batch.push(next(column, reader).map_err(|why| of_column(column, why))?.into_iter());
            }
            let rows = batch.first().map_or(0, ExactSizeIterator::len);
            if batch.iter().any(|column| column.len() != rows) {
                return Err(unusable("its columns are not equally long"));
            }
            if rows == 0 {
                break;
            }
            read += rows;
            values += rows * batch.len();
            if values > MOST_VALUES {
                return Err(unusable(format!("it has more than {MOST_VALUES} values")));
            }
            for _ in 0..rows {
                writer.write_record(batch.iter_mut().map(|column| column.next().unwrap_or_default()))?;
            }
        }
        let said = group.metadata().num_rows();
        if !columns.is_empty() && usize::try_from(said).ok() != Some(read) {
            return Err(unusable(format!("it says that it has {said} rows, and there are {read}")));
        }
    }
    String::from_utf8(writer.into_inner().map_err(unusable)?).map_err(unusable)
}

thread_local! {
    /// Whether a panic of this thread is no news.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// What the reading comes to. The library panics on some broken files: that is an error like others, and nothing is printed of it.
fn guarded(read: impl FnOnce() -> io::Result<String>) -> io::Result<String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                others(panic);
            }
        }));
    });
    QUIET.set(true);
    // What the reading has in its hands is dropped with it, so that nobody sees it half done.
    let read = panic::catch_unwind(AssertUnwindSafe(read));
    QUIET.set(false);
    read.unwrap_or_else(|_| Err(unusable("it is broken")))
}

fn unusable(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("it is no Parquet that can be read: {error}"))
}

fn of_column(column: &ColumnDescriptor, why: impl std::fmt::Display) -> io::Error {
    unusable(format!("column `{}`: {why}", column.name()))
}

/// The next values of a column; none at its end.
fn next(column: &ColumnDescriptor, reader: &mut ColumnReader) -> Result<Vec<String>, String> {
    let meaning = Meaning::of(column);
    match reader {
        ColumnReader::BoolColumnReader(reader) => texts(column, reader, |value| Some(value.to_string())),
        ColumnReader::Int32ColumnReader(reader) => texts(column, reader, |value| match meaning {
            Meaning::Unsigned => Some(value.cast_unsigned().to_string()),
            _ => meaning.text(i128::from(*value)),
        }),
        ColumnReader::Int64ColumnReader(reader) => texts(column, reader, |value| match meaning {
            Meaning::Unsigned => Some(value.cast_unsigned().to_string()),
            _ => meaning.text(i128::from(*value)),
        }),
        ColumnReader::Int96ColumnReader(reader) => texts(column, reader, old_time),
        ColumnReader::FloatColumnReader(reader) => texts(column, reader, |value| Some(value.to_string())),
        ColumnReader::DoubleColumnReader(reader) => texts(column, reader, |value| Some(value.to_string())),
        ColumnReader::ByteArrayColumnReader(reader) => texts(column, reader, |value| meaning.bytes(value)),
        ColumnReader::FixedLenByteArrayColumnReader(reader) => {
            texts(column, reader, |value| meaning.bytes(value))
        }
    }
}

/// The next values as texts, by what makes one of a value. `None` of it is a time that is on no calendar.
fn texts<T: DataType>(
    column: &ColumnDescriptor,
    reader: &mut ColumnReaderImpl<T>,
    text: impl Fn(&T::T) -> Option<String>,
) -> Result<Vec<String>, String> {
    let (mut levels, mut values) = (Vec::new(), Vec::new());
    let there = column.max_def_level();
    let (rows, _, _) =
        reader.read_records(BATCH, Some(&mut levels), None, &mut values).map_err(|why| why.to_string())?;
    let mut values = values.iter();
    let mut texts = Vec::with_capacity(rows);
    for row in 0..rows {
        if there > 0 && levels.get(row) != Some(&there) {
            texts.push(String::new());
            continue;
        }
        let value = values.next().ok_or("a value is not there")?;
        texts.push(text(value).ok_or("a time is on no calendar")?);
    }
    Ok(texts)
}

/// What whole numbers and bytes of a column stand for.
#[derive(Clone, Copy)]
enum Meaning {
    /// Themselves.
    Plain,
    /// Themselves, without a sign.
    Unsigned,
    /// A point in time, in so many nanoseconds since 1970.
    Time(i128),
    /// A decimal number with so many digits behind the point.
    Decimal(i32),
}

impl Meaning {
    /// What newer files say, or else what older ones do.
    fn of(column: &ColumnDescriptor) -> Self {
        match (column.logical_type_ref(), column.converted_type()) {
            (Some(LogicalType::Timestamp(time)), _) => Self::Time(match time.unit {
                TimeUnit::MILLIS => 1_000_000,
                TimeUnit::MICROS => 1_000,
                TimeUnit::NANOS => 1,
            }),
            (_, ConvertedType::TIMESTAMP_MILLIS) => Self::Time(1_000_000),
            (_, ConvertedType::TIMESTAMP_MICROS) => Self::Time(1_000),
            (Some(LogicalType::Date), _) | (_, ConvertedType::DATE) => {
                Self::Time(i128::from(DAY) * 1_000_000_000)
            }
            (Some(LogicalType::Decimal(decimal)), _) => Self::Decimal(decimal.scale),
            (_, ConvertedType::DECIMAL) => Self::Decimal(column.type_scale()),
            (
                _,
                ConvertedType::UINT_8
                | ConvertedType::UINT_16
                | ConvertedType::UINT_32
                | ConvertedType::UINT_64,
            ) => Self::Unsigned,
            _ => Self::Plain,
        }
    }

    fn text(self, value: i128) -> Option<String> {
        match self {
            Self::Plain | Self::Unsigned => Some(value.to_string()),
            Self::Time(nanos) => point_in_time(value.checked_mul(nanos)?),
            Self::Decimal(scale) => Some(decimal(value, scale)),
        }
    }

    fn bytes(self, value: &impl AsRef<[u8]>) -> Option<String> {
        let bytes = value.as_ref();
        let text = || String::from_utf8_lossy(bytes).into_owned();
        match self {
            Self::Decimal(scale) => Some(whole(bytes).map_or_else(text, |value| decimal(value, scale))),
            _ => Some(text()),
        }
    }
}

fn point_in_time(nanos: i128) -> Option<String> {
    Timestamp::from_nanosecond(nanos).ok().map(|at| at.to_string())
}

/// A time as old programs write it: nanoseconds of a day, and the day's number.
fn old_time(value: &Int96) -> Option<String> {
    /// The number of 1970-01-01.
    const FIRST: i128 = 2_440_588;
    let [low, high, day] = value.data() else { return None };
    let nanos = i128::from(u64::from(*high) << 32 | u64::from(*low));
    point_in_time((i128::from(*day) - FIRST) * i128::from(DAY) * 1_000_000_000 + nanos)
}

/// A whole number that is written with its highest byte first.
fn whole(bytes: &[u8]) -> Option<i128> {
    let first = bytes.first()?;
    let sign = if *first >= 0x80 { -1 } else { 0 };
    (bytes.len() <= size_of::<i128>())
        .then(|| bytes.iter().fold(sign, |value: i128, byte| value << 8 | i128::from(*byte)))
}

/// A whole number with its point moved.
fn decimal(value: i128, scale: i32) -> String {
    let Ok(places @ 1..=40) = usize::try_from(scale) else { return value.to_string() };
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = places + 1);
    let (whole, part) = digits.split_at(digits.len() - places);
    format!("{}{whole}.{part}", if value < 0 { "-" } else { "" })
}
