//! What came of tests, in words.

use std::io::{Result, Write};
use std::time::Duration;

use crate::hooks::testing::Report;

/// Above this a case's time is shown.
const SLOW: Duration = Duration::from_millis(100);

/// Whether everything in a file went well.
pub(super) fn is_good(report: &Report) -> bool {
    report.fault.is_none() && report.cases.iter().all(|case| case.failure.is_none())
}

/// One file: its name, a line for each case, and under a failed one what failed and what scripts logged.
pub(super) fn write_file(out: &mut dyn Write, report: &Report) -> Result<()> {
    writeln!(out, "{}", report.file)?;
    if let Some(fault) = &report.fault {
        writeln!(out, "  FAILED  the file")?;
        indented(out, fault)?;
    }
    for case in &report.cases {
        let took = if case.took >= SLOW { format!(" ({:.1} s)", case.took.as_secs_f64()) } else { String::new() };
        match &case.failure {
            None => writeln!(out, "  ok      {}{took}", case.name)?,
            Some(failure) => {
                writeln!(out, "  FAILED  {}{took}", case.name)?;
                indented(out, failure)?;
                for line in &case.lines {
                    indented(out, &format!("log: {line}"))?;
                }
            }
        }
    }
    if report.fault.is_none() && report.cases.is_empty() {
        writeln!(out, "  (no test.case in it)")?;
    }
    Ok(())
}

/// The last line: how many passed and failed.
pub(super) fn write_sum(out: &mut dyn Write, reports: &[Report], took: Duration) -> Result<()> {
    let cases = || reports.iter().flat_map(|report| &report.cases);
    let failed = cases().filter(|case| case.failure.is_some()).count() + reports.iter().filter(|report| report.fault.is_some()).count();
    let passed = cases().filter(|case| case.failure.is_none()).count();
    writeln!(out, "\n{passed} passed, {failed} failed, in {:.2} s", took.as_secs_f64())
}

fn indented(out: &mut dyn Write, text: &str) -> Result<()> {
    text.lines().try_for_each(|line| writeln!(out, "          {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::testing::Case;

    #[test]
    fn a_failure_is_shown_under_its_case() {
        let case = |name: &str, failure: Option<&str>| Case {
            name: name.into(),
            failure: failure.map(str::to_owned),
            lines: vec!["warn odd".into()],
            took: Duration::from_millis(250),
        };
        let report =
            Report { file: "x_test.lua".into(), cases: vec![case("a", None), case("b", Some("x_test.lua:3: no\ngot 1"))], fault: None };
        let mut out = Vec::new();
        write_file(&mut out, &report).unwrap();
        write_sum(&mut out, &[report], Duration::from_millis(1500)).unwrap();
        let expected = "x_test.lua\n  ok      a (0.2 s)\n  FAILED  b (0.2 s)\n          x_test.lua:3: no\n          got 1\n          log: warn odd\n\n\
            1 passed, 1 failed, in 1.50 s\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
