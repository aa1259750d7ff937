//! Id maps as sums and differences of ranges. Pure. An id is a number below 4294967295: that one is the
//! kernel's "nobody at all" (user_namespaces(7)).

use crate::sys::idmap;
use crate::sys::idmap::IdRange;

/// Linux: lines that a map may have (since 4.15).
const LINES_MAX: usize = 340;

/// The numbers from `start` on, `count` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub start: u32,
    pub count: u32,
}

impl Span {
    /// One past the last.
    fn end(self) -> u64 {
        u64::from(self.start) + u64::from(self.count)
    }

    fn between(start: u64, end: u64) -> Option<Span> {
        let count = u32::try_from(end.checked_sub(start)?).ok()?;
        let start = u32::try_from(start).ok()?;
        (count > 0).then_some(Span { start, count })
    }

    fn overlaps(self, other: Span) -> bool {
        u64::from(self.start) < other.end() && u64::from(other.start) < self.end()
    }
}

pub fn inside(range: &IdRange) -> Span {
    Span {
        start: range.inside,
        count: range.count,
    }
}

pub fn outside(range: &IdRange) -> Span {
    Span {
        start: range.outside,
        count: range.count,
    }
}

/// What is in `all` and not in `taken`, in order.
pub fn without(all: &[Span], taken: &[Span]) -> Vec<Span> {
    let mut left = all.to_vec();
    left.sort_by_key(|span| span.start);
    for hole in taken {
        left = left
            .iter()
            .flat_map(|span| {
                let below = Span::between(span.start.into(), span.end().min(hole.start.into()));
                let above = Span::between(u64::from(span.start).max(hole.end()), span.end());
                if span.overlaps(*hole) {
                    [below, above]
                } else {
                    [Some(*span), None]
                }
            })
            .flatten()
            .collect();
    }
    left
}

/// Adds a range; what it contradicts in the map, on either side, goes.
pub fn insert(map: &[IdRange], new: IdRange) -> Vec<IdRange> {
    let mut result = Vec::new();
    for range in map {
        // As offsets into the range, of either side's overlap.
        let holes = [
            hole(range.inside, range.count, new.inside, new.count),
            hole(range.outside, range.count, new.outside, new.count),
        ];
        let holes: Vec<Span> = holes.into_iter().flatten().collect();
        let whole = Span {
            start: 0,
            count: range.count,
        };
        result.extend(without(&[whole], &holes).into_iter().map(|part| IdRange {
            inside: range.inside + part.start,
            outside: range.outside + part.start,
            count: part.count,
        }));
    }
    result.push(new);
    result
}

fn hole(start: u32, count: u32, from: u32, length: u32) -> Option<Span> {
    let end = (u64::from(from) + u64::from(length)).min(u64::from(start) + u64::from(count));
    let begin = u64::from(from.max(start));
    let begin = begin.checked_sub(start.into())?;
    Span::between(begin, end.saturating_sub(start.into()))
}

/// Gives the numbers of the inside that are free, from 0 on, to what is `available` outside.
pub fn fill(map: &[IdRange], available: &[Span]) -> Vec<IdRange> {
    let every = Span {
        start: 0,
        count: u32::MAX,
    };
    let taken: Vec<Span> = map.iter().map(inside).collect();
    let mut free = without(&[every], &taken).into_iter();
    let mut room = free.next();
    let mut result = map.to_vec();
    for span in available {
        let mut span = *span;
        while let Some(place) = room {
            let count = span.count.min(place.count);
            result.push(IdRange {
                inside: place.start,
                outside: span.start,
                count,
            });
            room = Span::between(u64::from(place.start) + u64::from(count), place.end());
            room = room.or_else(|| free.next());
            match Span::between(u64::from(span.start) + u64::from(count), span.end()) {
                Some(rest) => span = rest,
                None => break,
            }
        }
    }
    result
}

/// The same map in order, with as few ranges as there can be.
pub fn tidy(map: &[IdRange]) -> Vec<IdRange> {
    let mut map = map.to_vec();
    map.sort_by_key(|range| range.inside);
    let mut result: Vec<IdRange> = Vec::new();
    for range in map {
        match result.last_mut() {
            Some(last)
                if inside(last).end() == u64::from(range.inside)
                    && outside(last).end() == u64::from(range.outside) =>
            {
                last.count += range.count;
            }
            _ => result.push(range),
        }
    }
    result
}

/// A map whose outside is the inside of `parent`, as one to the outside of `parent`; the first number
/// that `parent` does not have is the error.
pub fn compose(map: &[IdRange], parent: &[IdRange]) -> Result<Vec<IdRange>, u32> {
    through(map, parent, inside, |range| range.outside)
}

/// The other way round: a map to the outside of `parent` as one to its inside.
pub fn relative(map: &[IdRange], parent: &[IdRange]) -> Result<Vec<IdRange>, u32> {
    through(map, parent, outside, |range| range.inside)
}

fn through(
    map: &[IdRange],
    parent: &[IdRange],
    from: fn(&IdRange) -> Span,
    to: fn(&IdRange) -> u32,
) -> Result<Vec<IdRange>, u32> {
    let mut result = Vec::new();
    for range in map {
        let mut done = 0;
        while done < range.count {
            let number = range.outside.checked_add(done).ok_or(u32::MAX)?;
            let found = parent.iter().find(|piece| {
                let span = from(piece);
                span.start <= number && u64::from(number) < span.end()
            });
            let piece = found.ok_or(number)?;
            let offset = number - from(piece).start;
            let count = (piece.count - offset).min(range.count - done);
            result.push(IdRange {
                inside: range.inside + done,
                outside: to(piece) + offset,
                count,
            });
            done += count;
        }
    }
    Ok(tidy(&result))
}

/// Says why the kernel would not take a map.
pub fn check(map: &[IdRange]) -> Result<(), String> {
    if map.is_empty() {
        return Err("it maps no id at all".into());
    }
    if map.len() > LINES_MAX {
        return Err(format!(
            "it has {} ranges, and the kernel takes {LINES_MAX}",
            map.len()
        ));
    }
    for (index, range) in map.iter().enumerate() {
        if inside(range).end().max(outside(range).end()) > u64::from(u32::MAX) {
            return Err(format!("it goes beyond the largest id, {}", u32::MAX - 1));
        }
        for other in &map[..index] {
            if inside(range).overlaps(inside(other)) {
                let id = range.inside.max(other.inside);
                return Err(format!("it gives id {id} of the container twice"));
            }
            if outside(range).overlaps(outside(other)) {
                let id = range.outside.max(other.outside);
                return Err(format!("id {id} is mapped twice"));
            }
        }
    }
    Ok(())
}

/// Takes `count` ids of what is available: the first place that is large enough, or else pieces.
pub fn take(available: &[Span], count: u32) -> Option<Vec<Span>> {
    if let Some(place) = available.iter().find(|span| span.count >= count) {
        let start = place.start;
        return Some(vec![Span { start, count }]);
    }
    let mut pieces = Vec::new();
    let mut left = count;
    for span in available {
        let count = span.count.min(left);
        pieces.push(Span { count, ..*span });
        left -= count;
        if left == 0 {
            return Some(pieces);
        }
    }
    None
}

/// Where files of an image's id go under `map`, when they lie on disk under `default`: to the same id, or
/// for an id that `map` does not have, to one that nobody has there. Where there is one id at all, every
/// file is its own, as for a user without sub-ids.
pub fn shift(id: u32, default: &[IdRange], map: &[IdRange]) -> Option<u32> {
    if let [one] = map
        && one.count == 1
    {
        return idmap::inside(default, one.outside);
    }
    if let Some(host) = idmap::outside(map, id) {
        return idmap::inside(default, host);
    }
    let nobody = |host: u32| idmap::inside(map, host).is_none();
    if idmap::outside(default, id).is_some_and(nobody) {
        return Some(id);
    }
    let all: Vec<Span> = default.iter().map(outside).collect();
    let taken: Vec<Span> = map.iter().map(outside).collect();
    let free = without(&all, &taken).first()?.start;
    idmap::inside(default, free)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(inside: u32, outside: u32, count: u32) -> IdRange {
        IdRange {
            inside,
            outside,
            count,
        }
    }

    fn span(start: u32, count: u32) -> Span {
        Span { start, count }
    }

    #[test]
    fn differences_leave_what_is_left() {
        type Ranges = &'static [(u32, u32)];
        let table: [(Ranges, Ranges, Ranges); 6] = [
            (&[(0, 10)], &[], &[(0, 10)]),
            (&[(0, 10)], &[(3, 2)], &[(0, 3), (5, 5)]),
            (&[(0, 10)], &[(0, 3), (8, 9)], &[(3, 5)]),
            (&[(0, 10)], &[(0, 10)], &[]),
            (&[(20, 5), (0, 5)], &[(4, 17)], &[(0, 4), (21, 4)]),
            (&[(5, u32::MAX - 5)], &[(0, 6)], &[(6, u32::MAX - 6)]),
        ];
        let spans = |list: &[(u32, u32)]| -> Vec<Span> {
            list.iter()
                .map(|(start, count)| span(*start, *count))
                .collect()
        };
        for (all, taken, left) in table {
            assert_eq!(without(&spans(all), &spans(taken)), spans(left));
        }
    }

    #[test]
    fn a_range_that_is_added_breaks_what_it_contradicts() {
        let map = insert(&[range(0, 0, 65000)], range(100_000, 1, 1));
        assert_eq!(
            tidy(&map),
            [range(0, 0, 1), range(2, 2, 64998), range(100_000, 1, 1)]
        );
        // Both sides at once: 5 of the container, 9 of outside.
        let map = insert(&[range(0, 0, 20)], range(5, 9, 1));
        assert_eq!(
            tidy(&map),
            [
                range(0, 0, 5),
                range(5, 9, 1),
                range(6, 6, 3),
                range(10, 10, 10)
            ]
        );
    }

    #[test]
    fn what_is_free_inside_gets_what_is_left_outside() {
        let map = fill(&[range(3, 0, 2)], &[span(2, 3), span(50, 4)]);
        assert_eq!(
            tidy(&map),
            [range(0, 2, 3), range(3, 0, 2), range(5, 50, 4),]
        );
        assert_eq!(tidy(&fill(&[], &[span(0, 7)])), [range(0, 0, 7)]);
    }

    #[test]
    fn maps_go_through_maps_and_back() {
        let parent = [
            range(0, 1000, 1),
            range(1, 100_000, 100),
            range(101, 300, 10),
        ];
        let map = [range(0, 99, 5), range(1000, 0, 1)];
        let host = compose(&map, &parent).unwrap();
        assert_eq!(
            host,
            [range(0, 100_098, 2), range(2, 300, 3), range(1000, 1000, 1)]
        );
        assert_eq!(relative(&host, &parent).unwrap(), map);
        assert_eq!(compose(&[range(0, 105, 10)], &parent), Err(111));
        assert_eq!(relative(&[range(0, 7, 1)], &parent), Err(7));
    }

    #[test]
    fn what_the_kernel_refuses_is_said_before() {
        let refused = |map: &[IdRange]| check(map).unwrap_err();
        assert_eq!(refused(&[]), "it maps no id at all");
        assert_eq!(
            refused(&[range(0, 0, 10), range(9, 50, 1)]),
            "it gives id 9 of the container twice"
        );
        assert_eq!(
            refused(&[range(0, 5, 10), range(20, 0, 6)]),
            "id 5 is mapped twice"
        );
        assert_eq!(
            refused(&[range(1, 0, u32::MAX)]),
            "it goes beyond the largest id, 4294967294"
        );
        let many: Vec<IdRange> = (0..341).map(|id| range(id * 2, id * 2, 1)).collect();
        assert_eq!(
            refused(&many),
            "it has 341 ranges, and the kernel takes 340"
        );
        assert_eq!(check(&many[..340]), Ok(()));
    }

    #[test]
    fn files_of_ids_that_are_not_mapped_belong_to_nobody() {
        let default = [range(0, 1000, 1), range(1, 100_000, 100)];
        // A part of the ids, at another place.
        let map = [range(0, 100_010, 10)];
        assert_eq!(shift(0, &default, &map), Some(11));
        assert_eq!(shift(9, &default, &map), Some(20));
        assert_eq!(shift(50, &default, &map), Some(50));
        // On disk 15 is what 4 is in the container.
        assert_eq!(shift(15, &default, &map), Some(0));
        // One id has everything.
        assert_eq!(shift(50, &default, &[range(7, 1000, 1)]), Some(0));
        // Nothing is left for others.
        let map = [range(1, 1000, 1), range(2, 100_000, 100)];
        assert_eq!(shift(0, &default, &map), None);
        assert_eq!(shift(1, &default, &map), Some(0));
    }

    fn spans() -> impl Strategy<Value = Vec<Span>> {
        prop::collection::vec((0u32..60, 1u32..20), 0..6).prop_map(|list| {
            list.into_iter()
                .map(|(start, count)| span(start, count))
                .collect()
        })
    }

    fn holds(spans: &[Span], id: u32) -> bool {
        spans
            .iter()
            .any(|span| span.start <= id && u64::from(id) < span.end())
    }

    fn valid_map() -> impl Strategy<Value = Vec<IdRange>> {
        prop::collection::vec((0u32..60, 0u32..60, 1u32..20), 0..6).prop_map(|list| {
            list.into_iter()
                .fold(vec![], |map, (inside, outside, count)| {
                    insert(&map, range(inside, outside, count))
                })
        })
    }

    proptest! {
        #[test]
        fn a_difference_has_what_is_in_one_and_not_in_the_other(all in spans(), taken in spans()) {
            let left = without(&all, &taken);
            for id in 0..100 {
                prop_assert_eq!(holds(&left, id), holds(&all, id) && !holds(&taken, id));
            }
        }

        #[test]
        fn inserting_keeps_a_map_valid_and_the_rest_as_it_was(
            map in valid_map(), inside in 0u32..60, outside in 0u32..60, count in 1u32..20,
        ) {
            let new = range(inside, outside, count);
            let result = tidy(&insert(&map, new));
            prop_assert_eq!(check(&result), Ok(()));
            for id in 0..100 {
                let before = idmap::outside(&map, id);
                let expected = match idmap::outside(&[new], id) {
                    Some(there) => Some(there),
                    None => before.filter(|there| idmap::inside(&[new], *there).is_none()),
                };
                prop_assert_eq!(idmap::outside(&result, id), expected);
            }
        }

        #[test]
        fn filling_maps_every_id_once_from_0_on(map in valid_map(), all in spans()) {
            let taken: Vec<Span> = map.iter().map(outside).collect();
            let mut available: Vec<Span> = vec![];
            for one in without(&all, &taken) {
                available.extend(without(&[one], &available.clone()));
            }
            let result = fill(&map, &available);
            prop_assert!(result.is_empty() || check(&tidy(&result)).is_ok());
            let total = |map: &[IdRange]| map.iter().map(|range| range.count).sum::<u32>();
            let more: u32 = available.iter().map(|span| span.count).sum();
            prop_assert_eq!(total(&result), total(&map) + more);
            if let Some(gap) = (0..200).find(|id| idmap::outside(&result, *id).is_none()) {
                // Above the first gap there is nothing but what was given.
                for id in gap..200 {
                    prop_assert_eq!(idmap::outside(&result, id), idmap::outside(&map, id));
                }
            }
        }

        #[test]
        fn composition_is_that_of_functions(map in valid_map(), parent in valid_map()) {
            let expected = |id| idmap::outside(&map, id).and_then(|id| idmap::outside(&parent, id));
            match compose(&map, &parent) {
                Ok(result) => for id in 0..100 {
                    prop_assert_eq!(idmap::outside(&result, id), expected(id));
                },
                Err(missing) => {
                    prop_assert!(idmap::outside(&parent, missing).is_none());
                    prop_assert!(idmap::inside(&map, missing).is_some());
                }
            }
        }

        #[test]
        fn a_file_shows_its_own_id_or_none(map in valid_map(), default in valid_map()) {
            // What a user may map: the part of it that is his.
            let ids = (0..80).filter_map(|id| {
                let host = idmap::outside(&map, id)?;
                idmap::inside(&default, host)?;
                Some(range(id, host, 1))
            });
            let map = tidy(&ids.collect::<Vec<_>>());
            prop_assume!(map.iter().map(|range| range.count).sum::<u32>() != 1);
            for id in (0..80).filter(|id| idmap::outside(&default, *id).is_some()) {
                let Some(moved) = shift(id, &default, &map) else { continue };
                let host = idmap::outside(&default, moved).unwrap();
                let seen = idmap::inside(&map, host);
                prop_assert_eq!(seen, idmap::outside(&map, id).map(|_| id));
            }
        }

        #[test]
        fn what_is_taken_was_available(available in spans(), count in 1u32..40) {
            let available = without(&available, &[]);
            let total: u32 = available.iter().map(|span| span.count).sum();
            match take(&available, count) {
                Some(taken) => {
                    prop_assert_eq!(taken.iter().map(|span| span.count).sum::<u32>(), count);
                    prop_assert!(without(&taken, &available).is_empty());
                }
                None => prop_assert!(total < count),
            }
        }
    }
}
