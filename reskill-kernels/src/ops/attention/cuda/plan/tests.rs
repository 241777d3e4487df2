//! The lists of a packed batch against what its segments see, pair by pair.

use super::*;

fn segment(start: usize, len: usize, prefix_start: usize, prefix_len: usize) -> PackedSegment {
    PackedSegment { start, len, prefix_start, prefix_len }
}

/// Trunks with branches, branches of branches, segments too short and too long for a tile, empty ones.
fn odd_segments() -> Vec<PackedSegment> {
    let mut segments = vec![segment(0, 40, 0, 0), segment(40, 3, 0, 7), segment(43, 5, 0, 40)];
    segments.extend([
        segment(48, 0, 0, 9),
        segment(48, 2, 0, 0),
        segment(50, 4, 38, 6),
        segment(54, 1, 54, 0),
    ]);
    segments.extend([segment(55, 0, 55, 0), segment(55, 2, 55, 0)]);
    let mut next = 57;
    for visible in [0, 1, 1, 2, 1] {
        segments.push(segment(next, 9, 55, visible));
        next += 9;
    }
    segments
}

const SIZES: [TileSizes; 3] = [
    TileSizes { queries: 16, keys: 16, run: 16 },
    TileSizes { queries: 128, keys: 128, run: 32 },
    TileSizes { queries: 7, keys: 5, run: 3 },
];

/// Whether row `i` sees key `j`.
fn sees(segments: &[PackedSegment], i: usize, j: usize) -> bool {
    let of = |segment: &&PackedSegment| (segment.start..segment.start + segment.len).contains(&i);
    segments.iter().find(of).is_some_and(|segment| {
        (segment.prefix_start..segment.prefix_start + segment.prefix_len).contains(&j)
            || (segment.start..=i).contains(&j)
    })
}

/// What the kernels make of a query tile: the keys that row `i` counts in each run.
fn counted(lists: &PackedLists, tile: &[u32; 8], i: usize, j: usize) -> usize {
    let [_, _, a0, a1, _, b0, b1, _] = tile.map(|x| x as usize);
    let [prefix_start, prefix_end, own_start, row] = lists.views[i].map(|x| x as usize);
    usize::from((a0..a1).contains(&j) && (prefix_start..prefix_end).contains(&j))
        + usize::from((b0..b1).contains(&j) && (own_start..=row).contains(&j))
}

#[test]
fn every_query_row_meets_each_key_it_sees_once_and_no_other() {
    let segments = odd_segments();
    let n = segments.iter().map(|segment| segment.len).sum::<usize>();
    for (sizes, group) in SIZES.into_iter().flat_map(|sizes| [1, 3].map(|group| (sizes, group))) {
        let lists = PackedLists::new(&segments, group, sizes);
        let mut times = vec![0; n * group];
        for tile in &lists.query_tiles {
            let [first, len, a0, _, a_full, b0, _, b_full] = tile.map(|x| x as usize);
            assert!(len >= 1 && len <= sizes.queries);
            for (flat, times) in times.iter_mut().enumerate().skip(first).take(len) {
                *times += 1;
                let i = flat / group;
                for j in 0..n {
                    assert_eq!(counted(&lists, tile, i, j), usize::from(sees(&segments, i, j)), "{i} {j}");
                    let full = (a0..a_full).contains(&j) || (b0..b_full).contains(&j);
                    assert!(!full || sees(&segments, i, j), "{i} does not see {j}, which all should");
                }
            }
        }
        assert_eq!(times, vec![1; n * group]);
    }
}

#[test]
fn every_key_meets_each_query_row_that_sees_it_once() {
    let segments = odd_segments();
    let n = segments.iter().map(|segment| segment.len).sum::<usize>();
    for (sizes, group) in SIZES.into_iter().flat_map(|sizes| [1, 3].map(|group| (sizes, group))) {
        let lists = PackedLists::new(&segments, group, sizes);
        let mut times = vec![0; n * n * group];
        for &[first, len, begin, end, ..] in &lists.key_tiles {
            assert!(len as usize <= sizes.keys && begin < end);
            for [run_first, run_len, full, _] in &lists.runs[begin as usize..end as usize] {
                assert!(*run_len as usize <= sizes.run);
                for flat in *run_first..run_first + run_len {
                    for j in first..first + len {
                        let seen = sees(&segments, flat as usize / group, j as usize);
                        assert!(*full == 0 || seen, "{flat} does not see {j}, which all should");
                        times[flat as usize * n + j as usize] += usize::from(seen);
                    }
                }
            }
        }
        for flat in 0..n * group {
            for j in 0..n {
                assert_eq!(times[flat * n + j], usize::from(sees(&segments, flat / group, j)), "{flat} {j}");
            }
        }
    }
}

#[test]
fn every_key_is_written_by_its_tile_or_by_the_sum_of_all_its_slots() {
    // A trunk that 40 branches see from its first key on, and one that nobody sees.
    let mut segments = vec![segment(0, 32, 0, 0)];
    segments.extend((0..40).map(|index| segment(32 + 8 * index, 8, 0, 16)));
    segments.push(segment(352, 32, 352, 0));
    let sizes = TileSizes { queries: 16, keys: 16, run: 16 };
    let lists = PackedLists::new(&segments, 1, sizes);
    assert!(!lists.sums.is_empty());
    let mut slots: Vec<u32> =
        lists.key_tiles.iter().map(|tile| tile[4]).filter(|&slot| slot != NONE).collect();
    slots.sort_unstable();
    assert_eq!(slots, (0..lists.n_slots as u32).collect::<Vec<_>>());
    let mut written = vec![0; 384];
    for &[first, len, _, _, slot, ..] in &lists.key_tiles {
        (first..first + len).for_each(|j| written[j as usize] += usize::from(slot == NONE));
    }
    for &[first, len, slot, n_slots] in &lists.sums {
        (first..first + len).for_each(|j| written[j as usize] += 1);
        for slot in slot..slot + n_slots {
            assert!(lists.key_tiles.iter().any(|tile| tile[..2] == [first, len] && tile[4] == slot));
        }
    }
    assert_eq!(written, vec![1; 384]);
    // No block works much longer than the mean: twice as long at the most, but for the least that is not cut.
    let mean = lists.runs.len() as u32 / 24;
    assert!(lists.key_tiles.iter().all(|tile| tile[3] - tile[2] <= (2 * mean + 2).max(8)));
}

#[test]
fn short_branches_share_a_tile() {
    let mut segments = vec![segment(0, 64, 0, 0)];
    segments.extend((0..8).map(|index| segment(64 + 4 * index, 4, 0, 32 + 4 * index)));
    let lists = PackedLists::new(&segments, 2, SIZES[1]);
    // The trunk's 128 flat rows fill one tile, the 64 of all branches another.
    let lens: Vec<u32> = lists.query_tiles.iter().map(|tile| tile[1]).collect();
    assert_eq!(lens.iter().sum::<u32>(), 192);
    assert_eq!(lens.len(), 2);
}
