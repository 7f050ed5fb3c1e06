//! Makes the changes of a plan, one after the other, and keeps what became of each.
//!
//! A change that the server refuses is no reason to leave the others; a server that cannot be reached
//! is. What is not known from its reply shows when the destination is read again.

use super::enterprise::MetaApi;
use super::passwords::Passwords;
use super::plan::{Change, Plan};
use crate::error::{Error, ErrorKind, Result};
use crate::http::{Client, Secret};
use crate::influxql::create;
use crate::stop::Stop;

/// Where changes are made.
#[derive(Debug)]
pub struct Target<'a> {
    /// The server.
    pub client: &'a Client,
    /// The cluster's meta nodes, which make users where they are named.
    pub meta: Option<&'a MetaApi>,
    /// New passwords.
    pub passwords: &'a Passwords,
}

/// Makes what is not left; for each change why it failed, if it did.
///
/// # Errors
/// Where the server cannot be reached any longer, or an end was asked for.
pub fn run(plan: &Plan, target: &Target<'_>, stop: &Stop) -> Result<Vec<Option<String>>> {
    let mut failures = Vec::with_capacity(plan.changes.len());
    for planned in &plan.changes {
        if stop.is_requested() {
            return Err(ErrorKind::Interrupted.into());
        }
        let made = match planned.left {
            Some(_) => Ok(()),
            None => target.make(&planned.change),
        };
        failures.push(match made {
            Ok(()) => None,
            Err(error) if matches!(error.kind(), ErrorKind::Connection { .. }) => {
                return Err(error);
            }
            Err(error) => Some(target.without_secrets(&error, &planned.change)),
        });
        if planned.left.is_none() {
            let failure = failures.last().and_then(Option::as_ref);
            tracing::info!(change = planned.change.what(), failure, "made");
        }
    }
    Ok(failures)
}

impl Target<'_> {
    fn make(&self, change: &Change) -> Result<()> {
        let password = |user: &str| {
            let none = || ErrorKind::Data(format!("there is no password for user {user:?}"));
            self.passwords.get(user).map(Secret::expose).ok_or_else(none)
        };
        match (self.meta, change) {
            (Some(meta), Change::CreateUser { user, admin }) => {
                meta.create(user, password(user)?)?;
                if *admin { meta.make_admin(user) } else { Ok(()) }
            }
            (Some(meta), Change::MakeAdmin { user }) => meta.make_admin(user),
            (Some(meta), Change::Grant { user, database, grant }) => {
                meta.grant(user, database, *grant)
            }
            (_, Change::CreateUser { user, .. }) => self.execute(change, password(user)?),
            _ => self.execute(change, ""),
        }
    }

    fn execute(&self, change: &Change, password: &str) -> Result<()> {
        create::execute_shown(self.client, &change.statement(password)?, &change.shown()?)
    }

    /// What a server says may quote what it was sent, in whole, in part, or escaped.
    fn without_secrets(&self, error: &Error, change: &Change) -> String {
        if let Change::Subscribe { subscription, .. } = change
            && subscription.shown() != subscription.destinations
        {
            return "the server refused it; its words are left out, since they may quote the address".into();
        }
        let text = error.to_string();
        self.passwords.values().fold(text, |text, password| text.replace(password.expose(), "***"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Role, Server};
    use crate::schema::Subscription;

    #[test]
    fn why_a_change_failed_tells_no_secret() {
        let server = Server::at("h", 1);
        let client = Client::new(server, Role::Destination).unwrap();
        let passwords = Passwords::from([("u".to_owned(), Secret::new("hunter2".into()))]);
        let target = Target { client: &client, meta: None, passwords: &passwords };
        let told = |change: &Change| {
            let words = "invalid: http://a:hunter3@h and hunter2";
            target.without_secrets(&Error::location("h:1", words), change)
        };
        let subscribe = |address: &str| Change::Subscribe {
            database: "d".into(),
            policy: "p".into(),
            name: "s".into(),
            subscription: Subscription { mode: "ALL".into(), destinations: vec![address.into()] },
            replaces: false,
        };
        assert!(!told(&subscribe("http://a:hunter3@h")).contains("hunter"));
        assert!(told(&subscribe("http://h")).contains("invalid"));
        let create = Change::CreateUser { user: "u".into(), admin: false };
        assert!(!told(&create).contains("hunter2"));
    }
}
