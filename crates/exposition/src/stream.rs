//! The page of a fleet, piece by piece.
//!
//! A page of thousands of members is hundreds of megabytes, so that it is never whole in memory: a [`Stream`]
//! keeps its place, in the middle of a family too, and appends as much at a time as it is asked for. It says what
//! a [`Page`](crate::Page) of the same families would say, each family once with the samples of one member side
//! by side, and is written by the same functions.
//!
//! Each part of each member is walked by a cursor of its own. Cursors wait under the name of the family that
//! they have come to; the family that is written next is the first of those names, and whoever waits under it
//! moves on. That touches each family of each part once, and needs no list of them all.
//!
//! What a newcomer would get wrong: a sample may have a label that its member adds to all, and keeps its own.
//! Only then two members can come to the same series, and only then what was written is remembered.

use crate::family::{Families, FamilyRef, Kind, SampleRef};
use crate::merge::in_order;
use crate::openmetrics::{self, Candidate};
use crate::text::Series;
use crate::{Format, protobuf, text, wire};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::vec;

/// Names and values of labels.
pub type Labels = Arc<[(Box<str>, Box<str>)]>;

/// Families and what tells them from those of others.
#[derive(Clone, Debug, Default)]
pub struct Labelled {
    /// Every sample gets these labels in addition to its own, unless it has one of that name. Names must be
    /// valid and none of `le` and `quantile`. Of two labels of one name the first counts, and an empty value is
    /// none. Sets with the same labels are one set.
    pub labels: Labels,
    /// The families; those of one name are put together as in a [`Page`](crate::Page).
    pub parts: Vec<Arc<Families>>,
}

/// A page on its way; see the head of this file.
pub struct Stream {
    fleet: Fleet,
    /// Families to write, by their full names; all, where there are none.
    names: Vec<String>,
    walk: Walk,
    family: Option<Opened>,
    pen: Pen,
    /// OpenMetrics: what the families are called, in their order.
    called: Called,
    /// Protobuf: the family that is being made.
    message: Vec<u8>,
    /// Protobuf: how much of it was handed out, once it is whole.
    sent: Option<usize>,
    ended: bool,
}

/// What families are called in OpenMetrics. That depends on all others, so that they are walked beforehand.
enum Called {
    /// As ever: it is another format.
    Same,
    /// Not all names are known yet: name, kind, whether it counts.
    Asking(Vec<(String, Kind, bool)>),
    Known(vec::IntoIter<(String, Kind)>),
}

/// How many families of parts are looked at in one go to find names.
const LOOKED_AT: usize = 10_000;

/// What a family message may leave behind for the next one, in bytes.
const KEPT: usize = 256 * 1024;

impl Stream {
    /// A page of these sets in that format. With `names`, of those families only: the `name[]` parameter.
    pub fn new(format: Format, sets: Vec<Labelled>, names: &[String]) -> Self {
        let fleet = Fleet::new(format, sets);
        let names: Vec<_> = BTreeSet::from_iter(names.iter().cloned()).into_iter().collect();
        let walk = Walk::new(&fleet, &names);
        let called = match format {
            Format::OpenMetrics => Called::Asking(vec![]),
            Format::Text | Format::Protobuf => Called::Same,
        };
        let pen = Pen { format, series: Series::default(), labels: vec![] };
        Self { fleet, names, walk, family: None, pen, called, message: vec![], sent: None, ended: false }
    }

    /// Appends about `enough` bytes, and says whether there is more to come. At the beginning in OpenMetrics, and
    /// within large families in protobuf, it appends nothing and still there is more: one call does only so much
    /// work.
    pub fn write_some(&mut self, out: &mut Vec<u8>, enough: usize) -> bool {
        let goal = out.len() + enough.max(1);
        if !self.know_names() {
            return true;
        }
        while out.len() < goal && !self.ended {
            if self.send(out, goal) {
                continue;
            }
            let Some(mut family) = self.family.take().or_else(|| self.open(out)) else {
                if self.pen.format == Format::OpenMetrics {
                    openmetrics::end(out);
                }
                self.ended = true;
                break;
            };
            let whole = match self.pen.format {
                Format::Protobuf => {
                    let goal = self.message.len() + (goal - out.len());
                    let whole = family.write(&self.fleet, &mut self.pen, &mut self.message, goal);
                    if whole {
                        wire::varint(out, self.message.len() as u64);
                        self.sent = Some(0);
                    }
                    whole
                }
                Format::Text | Format::OpenMetrics => family.write(&self.fleet, &mut self.pen, out, goal),
            };
            if !whole {
                self.family = Some(family);
                return true;
            }
        }
        !self.ended
    }

    /// Hands out more of a whole message, if there is one.
    fn send(&mut self, out: &mut Vec<u8>, goal: usize) -> bool {
        let Some(sent) = self.sent else { return false };
        let piece = (goal - out.len()).min(self.message.len() - sent);
        out.extend_from_slice(&self.message[sent..sent + piece]);
        self.sent = Some(sent + piece);
        if sent + piece == self.message.len() {
            self.sent = None;
            self.message.clear();
            self.message.shrink_to(KEPT);
        }
        true
    }

    /// Begins the next family.
    fn open(&mut self, out: &mut Vec<u8>) -> Option<Opened> {
        let mut opened = Opened::new(self.walk.next(&self.fleet)?, &self.fleet);
        let first = opened.first(&self.fleet);
        let (kind, help) = (first.kind(), first.help());
        match self.pen.format {
            Format::Text => text::head(out, &opened.name, kind, help),
            Format::Protobuf => protobuf::head(&mut self.message, &opened.name, kind, help),
            Format::OpenMetrics => {
                if let Called::Known(names) = &mut self.called
                    && let Some(called) = names.next()
                {
                    (opened.name, opened.kind) = called;
                }
                openmetrics::head(out, &opened.name, opened.kind, help);
            }
        }
        Some(opened)
    }

    /// Works on what has to be known before the first family; true where that is all there.
    fn know_names(&mut self) -> bool {
        let Called::Asking(asked) = &mut self.called else { return true };
        let mut looked_at = 0;
        while looked_at < LOOKED_AT {
            let Some(places) = self.walk.next(&self.fleet) else {
                let candidates: Vec<_> = asked
                    .iter()
                    .map(|(name, kind, counts)| Candidate { name, kind: *kind, counts: *counts })
                    .collect();
                let named = openmetrics::name_families(&candidates);
                let named: Vec<_> = named.into_iter().map(|(name, kind)| (name.into_owned(), kind)).collect();
                self.called = Called::Known(named.into_iter());
                self.walk = Walk::new(&self.fleet, &self.names);
                return true;
            };
            looked_at += places.len();
            let mut family = Opened::new(places, &self.fleet);
            let counts = family.kind == Kind::Counter
                && openmetrics::all_count(|visit| {
                    family.each(&self.fleet, |_, sample| {
                        visit(sample);
                        true
                    });
                });
            asked.push((family.name, family.kind, counts));
        }
        false
    }
}

/// Everything that is to be written.
struct Fleet {
    members: Vec<Member>,
    parts: Vec<Arc<Families>>,
    /// For each part whose it is. Those of one member stand side by side.
    member_of: Vec<u32>,
}

/// The labels that a member adds, in the order of their names.
type Added = Vec<(Box<str>, Box<str>)>;

struct Member {
    labels: Added,
    /// The labels in the format.
    written: Box<[u8]>,
    /// There may be samples with a label of the same name as one of `labels`.
    may_hide: bool,
    /// There may be samples with a label of the same name as one that some member adds.
    may_clash: bool,
}

impl Fleet {
    fn new(format: Format, sets: Vec<Labelled>) -> Self {
        let mut by_labels = HashMap::<_, usize>::new();
        let mut grouped: Vec<(Added, Vec<Arc<Families>>)> = vec![];
        for Labelled { labels, parts } in sets {
            let mut labels = labels.to_vec();
            labels.sort_by(|(a, _), (b, _)| a.cmp(b));
            labels.dedup_by(|(later, _), (first, _)| later == first);
            labels.retain(|(_, value)| !value.is_empty());
            match by_labels.entry(labels) {
                Entry::Occupied(known) => grouped[*known.get()].1.extend(parts),
                Entry::Vacant(new) => {
                    grouped.push((new.key().clone(), parts));
                    new.insert(grouped.len() - 1);
                }
            }
        }
        let names: BTreeSet<&str> =
            grouped.iter().flat_map(|(labels, _)| labels).map(|(name, _)| &**name).collect();
        let may_clash = |parts: &[Arc<Families>]| {
            parts.iter().any(|part| names.iter().any(|name| part.may_have_label(name)))
        };
        let may_clash: Vec<_> = grouped.iter().map(|(_, parts)| may_clash(parts)).collect();
        let mut fleet = Self { members: vec![], parts: vec![], member_of: vec![] };
        for ((labels, parts), may_clash) in grouped.into_iter().zip(may_clash) {
            let mut written = vec![];
            labels.iter().for_each(|(name, value)| write_label(format, &mut written, name, value));
            let may_hide = parts.iter().any(|part| labels.iter().any(|(name, _)| part.may_have_label(name)));
            fleet.member_of.extend(parts.iter().map(|_| fleet.members.len() as u32));
            fleet.parts.extend(parts);
            fleet.members.push(Member { labels, written: written.into(), may_hide, may_clash });
        }
        fleet
    }

    fn family(&self, place: Place) -> FamilyRef<'_> {
        self.parts[place.part as usize].at(place.family as usize)
    }
}

fn write_label(format: Format, out: &mut Vec<u8>, name: &str, value: &str) {
    match format {
        Format::Text | Format::OpenMetrics => text::label(out, name, value),
        Format::Protobuf => protobuf::label(out, name, value),
    }
}

/// A family of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    part: u32,
    family: u32,
}

/// The way through all families in the order of their names.
enum Walk {
    /// Through all: who waits under which name, and which family each part has come to.
    All { waiting: BTreeMap<Box<str>, Vec<u32>>, cursors: Vec<u32> },
    /// Through those of these names.
    Named(vec::IntoIter<String>),
}

impl Walk {
    fn new(fleet: &Fleet, names: &[String]) -> Self {
        if !names.is_empty() {
            return Self::Named(Vec::from(names).into_iter());
        }
        let cursors = vec![0; fleet.parts.len()];
        let mut waiting = BTreeMap::new();
        wait(&mut waiting, &cursors, fleet, 0..fleet.parts.len() as u32);
        Self::All { waiting, cursors }
    }

    /// All families of the next name, in the order of the parts.
    fn next(&mut self, fleet: &Fleet) -> Option<Vec<Place>> {
        match self {
            Self::All { waiting, cursors } => {
                let (_, mut parts) = waiting.pop_first()?;
                parts.sort_unstable();
                let place = |part: &u32| Place { part: *part, family: cursors[*part as usize] };
                let places = parts.iter().map(place).collect();
                parts.iter().for_each(|part| cursors[*part as usize] += 1);
                wait(waiting, cursors, fleet, parts.into_iter());
                Some(places)
            }
            Self::Named(names) => names.find_map(|name| {
                let parts = fleet.parts.iter().zip(0u32..);
                let place = |(families, part): (&Arc<Families>, u32)| {
                    families.position(&name).map(|family| Place { part, family: family as u32 })
                };
                let places: Vec<_> = parts.filter_map(place).collect();
                Some(places).filter(|places| !places.is_empty())
            }),
        }
    }
}

/// Lets parts wait under the name of the family that they have come to. Neighbours mostly go to the same one.
fn wait(
    waiting: &mut BTreeMap<Box<str>, Vec<u32>>,
    cursors: &[u32],
    fleet: &Fleet,
    parts: impl Iterator<Item = u32>,
) {
    let mut together: (&str, Vec<u32>) = ("", vec![]);
    let mut settle = |(name, parts): (&str, Vec<u32>)| {
        if parts.is_empty() {
            return;
        }
        match waiting.get_mut(name) {
            Some(others) => others.extend(parts),
            None => drop(waiting.insert(name.into(), parts)),
        }
    };
    for part in parts {
        let (families, cursor) = (&fleet.parts[part as usize], cursors[part as usize] as usize);
        if cursor < families.len() {
            let name = families.at(cursor).name();
            if together.0 != name {
                settle(std::mem::replace(&mut together, (name, vec![])));
            }
            together.1.push(part);
        }
    }
    settle(together);
}

/// The family that is being written.
struct Opened {
    /// As the format has it; likewise the kind.
    name: String,
    kind: Kind,
    /// Where its samples are: only parts that agree with the first about the kind.
    places: Vec<Place>,
    /// The first place of the member that is being written.
    at: usize,
    /// How many samples of that member are done.
    done: usize,
    /// The samples of that member in order, as places and numbers of samples, where it has several parts.
    ordered: Vec<(Place, u32)>,
    /// What was written of a family in which members may clash.
    seen: Option<HashSet<u64>>,
}

impl Opened {
    fn new(mut places: Vec<Place>, fleet: &Fleet) -> Self {
        let first = fleet.family(places[0]);
        places.retain(|place| fleet.family(*place).kind() == first.kind());
        let may_clash =
            |place: &Place| fleet.members[fleet.member_of[place.part as usize] as usize].may_clash;
        Self {
            name: first.name().to_owned(),
            kind: first.kind(),
            seen: places.iter().any(may_clash).then(HashSet::new),
            places,
            at: 0,
            done: 0,
            ordered: vec![],
        }
    }

    fn first<'a>(&self, fleet: &'a Fleet) -> FamilyRef<'a> {
        fleet.family(self.places[0])
    }

    /// Writes on until `out` is as long as `goal`; true at the end of the family.
    fn write(&mut self, fleet: &Fleet, pen: &mut Pen, out: &mut Vec<u8>, goal: usize) -> bool {
        let (name, kind) = (std::mem::take(&mut self.name), self.kind);
        let mut seen = self.seen.take();
        let whole = self.each(fleet, |member, sample| {
            if seen.as_mut().is_none_or(|seen| seen.insert(member.identity(&sample))) {
                pen.sample(out, &name, kind, &sample, member);
            }
            out.len() < goal
        });
        (self.name, self.seen) = (name, seen);
        whole
    }

    /// Visits the samples that were not visited yet, as long as `visit` wants another; true after the last one.
    fn each<'a>(
        &mut self,
        fleet: &'a Fleet,
        mut visit: impl FnMut(&'a Member, SampleRef<'a>) -> bool,
    ) -> bool {
        while let Some(place) = self.places.get(self.at).copied() {
            let whose = |place: Place| fleet.member_of[place.part as usize];
            let member = &fleet.members[whose(place) as usize];
            let skipped = self.done;
            let mut visit = |sample| {
                self.done += 1;
                visit(member, sample)
            };
            let after = self.places[self.at..].iter().take_while(|other| whose(**other) == whose(place));
            let parts = after.count();
            let more = if parts == 1 {
                fleet.family(place).samples_from(skipped).all(&mut visit)
            } else {
                let sample = |(place, number): (Place, u32)| {
                    fleet.family(place).samples_from(number as usize).next().expect("it was numbered")
                };
                if skipped == 0 {
                    let places = self.places[self.at..self.at + parts].iter();
                    let numbered = places.flat_map(|place| {
                        (0..fleet.family(*place).samples().len() as u32).map(|number| (*place, number))
                    });
                    self.ordered = in_order(numbered, |numbered| sample(*numbered));
                }
                self.ordered[skipped..].iter().all(|numbered| visit(sample(*numbered)))
            };
            if !more {
                return false;
            }
            self.at += parts;
            self.done = 0;
        }
        true
    }
}

impl Member {
    /// The same for samples with the same labels, and most likely only for them.
    fn identity(&self, sample: &SampleRef<'_>) -> u64 {
        let mut all: Vec<(&str, &str)> = vec![];
        all.extend(sample.labels().map(|(name, value)| -> (&str, &str) { (name, value) }));
        let added = self.labels.iter().filter(|(name, _)| sample.label(name).is_none());
        all.extend(added.map(|(name, value)| (&**name, &**value)));
        all.sort_unstable();
        let mut hasher = DefaultHasher::new();
        all.hash(&mut hasher);
        hasher.finish()
    }
}

/// Writes samples in a format.
struct Pen {
    format: Format,
    series: Series,
    labels: Vec<u8>,
}

impl Pen {
    fn sample(&mut self, out: &mut Vec<u8>, name: &str, kind: Kind, sample: &SampleRef<'_>, member: &Member) {
        let mut labels = &*member.written;
        if member.may_hide && member.labels.iter().any(|(name, _)| sample.label(name).is_some()) {
            self.labels.clear();
            for (name, value) in member.labels.iter().filter(|(name, _)| sample.label(name).is_none()) {
                write_label(self.format, &mut self.labels, name, value);
            }
            labels = &self.labels;
        }
        match self.format {
            Format::Text => text::sample(out, &mut self.series, name, kind, sample, labels),
            Format::OpenMetrics => openmetrics::sample(out, &mut self.series, name, kind, sample, labels),
            Format::Protobuf => protobuf::sample(out, kind, sample, labels),
        }
    }
}
