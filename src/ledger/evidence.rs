//! What a poll sees beside the rows, of which it may follow that ids were handed out twice.

use serde::{Deserialize, Serialize};

use super::witness::Doubt;

/// What changes when another table, sequence or server stands behind the same name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The system identifier, if the role may know it.
    pub system: Option<String>,
    /// The database's object id.
    pub database: String,
    /// The timeline of a primary, if the role may know it.
    pub timeline: Option<i64>,
    /// When the server was started, in microseconds since the epoch.
    pub started: i64,
    /// The object ids and files of the tables.
    pub relations: String,
    /// The object id and the file of the sequence, if the role may read it.
    pub sequence: Option<(i64, i64)>,
}

/// What a poll sees beside the rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    /// The stamp now.
    pub stamp: Stamp,
    /// The last id that the sequence handed out, if the role may read it.
    pub last: Option<i64>,
    /// `pg_snapshot_xmin` and `pg_snapshot_xmax`.
    pub xmin: i64,
    /// See [`Evidence::xmin`].
    pub xmax: i64,
    /// The primary's snapshot is older than one that was read before.
    pub xids_fell: bool,
    /// The database's clock, in microseconds since the epoch.
    pub now: i64,
}

/// Whether two things that are known are different.
fn differ<T: PartialEq>(was: &Option<T>, now: &Option<T>) -> bool {
    was.is_some() && now.is_some() && was != now
}

impl Stamp {
    /// Whether nothing that is known of both is different.
    pub fn agrees(&self, now: &Self) -> bool {
        let known = !differ(&self.system, &now.system)
            && !differ(&self.timeline, &now.timeline)
            && !differ(&self.sequence, &now.sequence);
        known && self.database == now.database && self.started == now.started && self.relations == now.relations
    }

    /// This one, with what only the one before knew.
    pub fn over(&self, was: Self) -> Self {
        let now = self.clone();
        Self {
            system: now.system.or(was.system),
            timeline: now.timeline.or(was.timeline),
            sequence: now.sequence.or(was.sequence),
            ..now
        }
    }

    /// Whether the server is another one.
    pub fn is_other_system(&self, now: &Self) -> bool {
        differ(&self.system, &now.system)
    }
}

impl Evidence {
    /// Whether transaction ids from `before` mean nothing any more.
    pub fn is_other_history(&self, before: &Stamp) -> bool {
        before.is_other_system(&self.stamp) || differ(&before.timeline, &self.stamp.timeline) || self.xids_fell
    }

    /// What a change of the stamp makes of ids that were counted.
    pub fn doubt(&self, before: &Stamp) -> Doubt {
        let number = |stamp: &Stamp| stamp.sequence.map(|sequence| sequence.0);
        let is_other_sequence = differ(&number(before), &number(&self.stamp));
        if !is_other_sequence && differ(&before.sequence, &self.stamp.sequence) {
            Doubt::SetBack
        } else if is_other_sequence || self.is_other_history(before) || before.database != self.stamp.database {
            Doubt::OtherHistory
        } else if before.agrees(&self.stamp) {
            Doubt::None
        } else {
            Doubt::Changed
        }
    }

    /// Whether nothing but the tables' files or object ids has changed: a rewrite, which hands out no ids.
    pub fn is_rewrite(&self, before: &Stamp) -> bool {
        let same_tables = Stamp { relations: self.stamp.relations.clone(), ..before.clone() };
        same_tables.agrees(&self.stamp) && !self.xids_fell && before.relations != self.stamp.relations
    }
}
