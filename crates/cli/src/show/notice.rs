//! Notices, as an operator reads them.

use volutus_model::fleet::Confirmation;
use volutus_store::{FEED, NewNotice, Notice};

use super::{short, table};

fn to(notice: &NewNotice) -> String {
    match notice.channel.as_str() {
        FEED => "feed and status page".to_owned(),
        "email" => format!("{} <{}>", notice.recipient, notice.address),
        _ => format!("webhook {}", notice.recipient),
    }
}

/// A message that would be sent.
pub fn render_message(notice: &NewNotice) -> String {
    format!("To: {}\nSubject: {}\n\n{}\n----\n", to(notice), notice.subject, notice.body.trim_end())
}

/// The queue, newest first.
pub fn render(notices: &[Notice]) -> String {
    if notices.is_empty() {
        return "nobody was told anything yet\n".to_owned();
    }
    let mut rows = table(&["id", "state", "tries", "since", "moment", "to", "why"]);
    for one in notices {
        rows.add_row([
            one.id.to_string(),
            one.state.as_str().to_owned(),
            one.attempts.to_string(),
            one.changed_at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
            one.notice.moment.clone(),
            to(&one.notice),
            one.error.clone().unwrap_or_default(),
        ]);
    }
    format!("{rows}\n")
}

/// What owners answered, the latest first.
pub fn render_confirmations(all: &[Confirmation]) -> String {
    if all.is_empty() {
        return "no owner has answered yet\n".to_owned();
    }
    let mut rows = table(&["plan", "announced for", "project", "instance", "answer", "since"]);
    for one in all {
        rows.add_row([
            short(&one.plan).to_owned(),
            one.begins.strftime("%Y-%m-%d %H:%M UTC").to_string(),
            one.project.clone(),
            one.instance.clone(),
            one.answer.as_str().to_owned(),
            one.at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        ]);
    }
    format!("{rows}\n")
}
