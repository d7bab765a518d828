//! The JSON that programs get.

use serde_json::json;

use crate::config::Shape;
use crate::facts::Facts;
use crate::text::Message;

/// The body of a request.
pub(crate) fn body(shape: Shape, facts: &Facts, message: &Message) -> String {
    let plain = format!("{}\n\n{}", message.subject, message.body.trim_end());
    match shape {
        Shape::Json => json!({"subject": message.subject, "text": message.body, "facts": facts}),
        Shape::Slack => json!({"text": plain}),
        // A notice is what programs say: clients do not ring for it, and other programs do not answer
        // it. Source: Matrix client-server API, m.notice.
        Shape::Matrix => json!({"msgtype": "m.notice", "body": plain}),
    }
    .to_string()
}
