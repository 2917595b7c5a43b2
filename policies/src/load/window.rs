//! Windows of a policy file.

use jiff::Timestamp;

use super::file::WindowFile;
use super::{At, Findings};
use crate::diagnose::closest;
use crate::policy::{Overrun, Window};
use crate::quantity::Millis;
use crate::window::{cron, timezone, timezones};

/// Reads the windows; those that can't be read get a stand-in.
pub(super) fn windows(files: Option<&Vec<At<WindowFile>>>, findings: &mut Findings) -> Vec<Window> {
    files.into_iter().flatten().map(|file| window(&file.value, findings)).collect()
}

fn window(file: &WindowFile, findings: &mut Findings) -> Window {
    let window = Window {
        kind: file.kind,
        schedule: file.schedule.value.clone(),
        duration: file.duration.read_positive(findings).unwrap_or(Millis::ZERO),
        timezone: file.timezone.as_ref().map_or_else(|| "UTC".to_owned(), |written| written.value.clone()),
        allow_mending: file.allow_mending.unwrap_or_default(),
        overrun: file.overrun.as_ref().map_or(Overrun::Finish, |written| written.value),
    };
    if let Some(overrun) = file.overrun.as_ref().filter(|overrun| overrun.value == Overrun::Abort)
        && window.allow_mending
    {
        findings
            .error("P0031", overrun.span(), "what goes on in a window can't be aborted by it")
            .label("but `allow_mending` lets migrations go on that mend something")
            .help("leave one of them out");
    }
    let known = file.timezone.as_ref().is_none_or(|written| known_timezone(written, findings));
    if let Err(error) = cron(&window.schedule) {
        findings
            .error("P0027", file.schedule.span(), format!("`{}` is no schedule: {error}", window.schedule))
            .label("expected minute, hour, day of month, month and weekday")
            .help("`0 8 * * 1-5` is at eight from Monday to Friday");
    } else if known && window.duration > Millis::ZERO {
        sense(file, &window, findings);
    }
    window
}

fn known_timezone(written: &At<String>, findings: &mut Findings) -> bool {
    if timezone(&written.value).is_some() {
        return true;
    }
    let finding = findings
        .error("P0028", written.span(), format!("there is no time zone `{}`", written.value))
        .label("expected an IANA name such as `Europe/Paris`, or `UTC`");
    if let Some(near) = closest(&written.value, timezones().iter().map(String::as_str)) {
        finding.help(format!("did you mean `{near}`?"));
    }
    false
}

/// Whether it ever opens, and ever closes.
fn sense(file: &WindowFile, window: &Window, findings: &mut Findings) {
    // Any time will do.
    let Some(first) = window.begins(Timestamp::UNIX_EPOCH) else {
        findings
            .error("P0029", file.schedule.span(), format!("`{}` never comes", window.schedule))
            .label("no such day in any year");
        return;
    };
    let next = window.begins(first);
    let ends = window.ends(first);
    if let (Some(next), Some(ends)) = (next, ends)
        && ends >= next
    {
        findings
            .warning("W0008", file.duration.span(), "the window is open again before it closes")
            .label("as long as from one beginning to the next, or longer");
    }
}
