//! What a process and all its descendants use, as the kernel counts it in `/proc`.

use std::collections::HashMap;
use std::fs;

use anyhow::Context as _;

/// Ticks of a second in `/proc/<pid>/stat`: `USER_HZ`, 100 on every architecture that we run on.
const TICKS: f64 = 100.0;

/// A process and its parent, with its own ticks and those of children that it waited for.
struct Entry {
    parent: i32,
    ticks: u64,
}

/// Seconds of processor time of a process tree, user and system, those of ended children included.
pub(crate) fn cpu_seconds(root: i32) -> anyhow::Result<f64> {
    let entries = entries()?;
    let ticks: u64 = tree(root, &entries)
        .iter()
        .filter_map(|pid| entries.get(pid))
        .map(|entry| entry.ticks)
        .sum();
    #[expect(clippy::cast_precision_loss, reason = "ticks of a benchmark's minutes")]
    Ok(ticks as f64 / TICKS)
}

/// The most memory that the processes of a tree ever had resident, in MiB: the sum of `VmHWM`.
pub(crate) fn memory_peak(root: i32) -> anyhow::Result<f64> {
    let mut kib = 0.0;
    for pid in tree(root, &entries()?) {
        // A process may end meanwhile.
        let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else {
            continue;
        };
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let text = line.unwrap_or("0").trim().trim_end_matches("kB").trim();
        kib += text.parse::<f64>().context("VmHWM is no number")?;
    }
    anyhow::ensure!(kib > 0.0, "process {root} is gone");
    Ok(kib / 1024.0)
}

fn entries() -> anyhow::Result<HashMap<i32, Entry>> {
    let mut entries = HashMap::new();
    for file in fs::read_dir("/proc")? {
        let name = file?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat"))
            && let Some(entry) = entry(&stat)
        {
            entries.insert(pid, entry);
        }
    }
    Ok(entries)
}

/// A line of `/proc/<pid>/stat`, see proc(5). The program's name stands in parentheses and may have any of its own.
fn entry(stat: &str) -> Option<Entry> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    // Fields 14 to 17: utime, stime, cutime, cstime. The first one after the name is field 3.
    let ticks = (11..15).map(number).sum::<Option<u64>>()?;
    Some(Entry {
        parent: fields.get(1)?.parse().ok()?,
        ticks,
    })
}

fn tree(root: i32, entries: &HashMap<i32, Entry>) -> Vec<i32> {
    let mut found = vec![root];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        let children = entries.iter().filter(|(_, entry)| entry.parent == parent);
        found.extend(children.map(|(pid, _)| *pid));
        at += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_parentheses_in_its_name_is_read() {
        let stat = "7 (a) b) S 3 7 7 0 -1 4194560 1 2 3 4 10 20 30 40 20 0 1 0 5";
        let entry = entry(stat).expect("an entry");
        assert_eq!((entry.parent, entry.ticks), (3, 100));
    }

    #[test]
    fn this_process_has_memory() {
        let pid = i32::try_from(std::process::id()).expect("a pid");
        assert!(memory_peak(pid).expect("there") > 1.0);
        assert!(cpu_seconds(pid).expect("there") >= 0.0);
    }
}
