//! What people are told of a run, taken by a mail server and a web server of the test's own.

use anyhow::ensure;
use volutus_e2e::sink::Sink;

use crate::world::Lab;

/// Servers that a lab's notices go to, until they are looked at.
pub struct Told<'a> {
    lab: &'a Lab<'a>,
    mail: Sink,
    web: Sink,
}

impl<'a> Told<'a> {
    /// From now on both are told of the lab's runs.
    pub fn begin(lab: &'a Lab<'a>) -> anyhow::Result<Self> {
        Self::with(lab, "")
    }

    /// The same, with these keys besides.
    pub fn with(lab: &'a Lab<'a>, keys: &str) -> anyhow::Result<Self> {
        let (mail, web) = (Sink::smtp()?, Sink::http()?);
        let text = format!(
            "{keys}time_zone = \"Europe/Berlin\"\n\
             [smtp]\nhost = \"127.0.0.1\"\nport = {}\nencryption = \"none\"\nsender = \"ops@example.org\"\n\
             [[recipient]]\nname = \"users\"\nemail = [\"users@example.org\"]\n\
             [[webhook]]\nname = \"chat\"\nurl = \"http://127.0.0.1:{}/\"\n",
            mail.port(),
            web.port()
        );
        std::fs::write(lab.folder().join("notices.toml"), text)?;
        Ok(Self { lab, mail, web })
    }

    /// How many mails and how many calls of the webhook were taken so far.
    pub fn counts(&self) -> (usize, usize) {
        (self.mail.taken().len(), self.web.taken().len())
    }

    /// Both were told exactly this, in this order, each once; and nothing waits.
    pub fn exactly(self, subjects: &[&str]) -> anyhow::Result<()> {
        self.exactly_each(subjects, subjects)
    }

    /// People were told exactly this and programs that, in this order, each once; and nothing waits.
    pub fn exactly_each(self, people: &[&str], programs: &[&str]) -> anyhow::Result<()> {
        self.lab.volutus(&["notice", "deliver"])?.expect(0, &["0 sent, 0 to be tried again, 0 not taken"])?;
        let (mail, web) = (self.mail.taken(), self.web.taken());
        for (who, taken, subjects) in [("mail", mail, people), ("webhook", web, programs)] {
            let fits = taken.len() == subjects.len()
                && taken.iter().zip(subjects).all(|(message, subject)| message.contains(subject));
            ensure!(fits, "the {who} server was to be told {subjects:?}, and was told {taken:#?}");
        }
        let page = self.lab.volutus(&["notice", "publish", "html"])?.expect(0, &people[..1])?;
        ensure!(page.stdout.starts_with("<!DOCTYPE html>"), "{}", page.stdout);
        std::fs::remove_file(self.lab.folder().join("notices.toml"))?;
        Ok(())
    }
}
