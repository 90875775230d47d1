//! Which database is this, and is it the one that was counted?

/// Which server and which database this is, as far as the role may know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerId {
    /// The system identifier.
    pub system: Option<String>,
    /// The database's object id.
    pub database: String,
    /// The timeline of a primary.
    pub timeline: Option<i64>,
}

impl ServerId {
    /// `system/database`, as the state has it.
    pub fn identity(&self) -> String {
        format!("{}/{}", self.system.as_deref().unwrap_or("?"), self.database)
    }
}

/// True if two identities (`system/database`) are of different databases; a system that is unknown can be the same one.
pub fn is_other(was: &str, now: &str) -> bool {
    let (was, now) = (was.split_once('/'), now.split_once('/'));
    was.zip(now).is_none_or(|((was, one), (now, other))| one != other || (was != now && was != "?" && now != "?"))
}

#[cfg(test)]
mod tests {
    use super::is_other;

    #[test]
    fn a_system_that_the_role_may_not_know_can_be_the_same_one() {
        assert!(!is_other("1/5", "1/5") && !is_other("?/5", "1/5") && !is_other("1/5", "?/5"));
        assert!(is_other("1/5", "2/5") && is_other("1/5", "1/6") && is_other("?/5", "1/6"));
    }
}
