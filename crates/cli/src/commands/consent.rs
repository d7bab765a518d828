//! Asks for a word that nobody types by accident.

use std::io::{BufRead as _, IsTerminal as _};

use crate::error::{CliError, Result};

/// Asks at the terminal for a word, and refuses any other.
///
/// # Errors
/// Code `no-consent`, where there is no terminal or the answer is another one.
pub fn ask(question: &str, word: &str) -> Result<()> {
    let refused = |message: &str| CliError::refused("no-consent", message).hint("`--yes` does not ask.");
    if !std::io::stdin().is_terminal() {
        return Err(refused("this has to be consented to, and there is no terminal to ask at"));
    }
    anstream::eprint!("{question}: ");
    let mut answer = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|error| refused("the answer could not be read").because(&error))?;
    if answer.trim() == word {
        Ok(())
    } else {
        Err(refused(&format!("the answer was not `{word}`; nothing was done")))
    }
}
