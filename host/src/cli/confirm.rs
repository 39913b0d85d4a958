//! The question before something is changed.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use super::Failure;

/// Asks whether to go on, unless `--yes` was given. Only "y" and "yes" count as yes.
pub(super) fn confirm(yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::Usage(
            "nothing changed: there is no terminal to ask on; --yes goes on without asking"
                .to_owned(),
        ));
    }
    eprint!("Go on? [y/N] ");
    let mut answer = String::new();
    let asked = io::stderr()
        .flush()
        .and_then(|()| io::stdin().lock().read_line(&mut answer));
    match asked {
        Ok(_) if matches!(answer.trim(), "y" | "Y" | "yes") => Ok(()),
        _ => Err(Failure::Failed("nothing changed".to_owned())),
    }
}
