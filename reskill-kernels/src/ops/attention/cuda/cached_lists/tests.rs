//! The lists of a cached batch against the spans they are made from, pair by pair.

use super::*;

fn sizes(only: Option<usize>, page: usize) -> CachedSizes {
    CachedSizes { group: 2, page, only, enough_tiles: [6; 2] }
}

/// Positions that each flat row reads, tile by tile, by block and place; with the slots of its results.
fn read(lists: &CachedLists, sizes: CachedSizes, n: usize) -> Vec<Vec<(u32, u32)>> {
    let mut read = vec![Vec::new(); n * sizes.group];
    let mut direct = vec![0; n * sizes.group];
    let mut slots = vec![Vec::new(); n * sizes.group];
    for &[rows_first, m_first, len, pages_first, p0, p1, slot, full] in
        lists.small_tiles.iter().chain(&lists.large_tiles)
    {
        assert_eq!(p0 as usize % sizes.page, 0);
        assert!(p0 < p1 && len > 0);
        for m in m_first..m_first + len {
            let index = m / sizes.group as u32;
            let row = lists.rows[(rows_first + index) as usize] as usize;
            let flat = row * sizes.group + m as usize % sizes.group;
            let n_seen = lists.n_seen[row];
            assert!(full <= n_seen);
            match slot {
                NONE => direct[flat] += 1,
                _ if p0 < n_seen => slots[flat].push(slot + index),
                _ => {}
            }
            for p in p0..p1.min(n_seen) {
                let page = pages_first.wrapping_add(p / sizes.page as u32);
                read[flat].push((lists.pages[page as usize], p % sizes.page as u32));
            }
        }
    }
    for row in 0..n {
        let parts = lists.part_offsets[row] as usize..lists.part_offsets[row + 1] as usize;
        for flat in row * sizes.group..(row + 1) * sizes.group {
            slots[flat].sort_unstable();
            let mut parts = lists.parts[parts.clone()].to_vec();
            parts.sort_unstable();
            assert_eq!(slots[flat], parts, "slots of {flat}");
            let written = usize::from(lists.n_seen[row] > 0);
            assert_eq!(direct[flat] + usize::from(!parts.is_empty()), written, "results of {flat}");
        }
    }
    read
}

fn check(spans: &[CachedSpan<'_>], rows: usize, sizes: CachedSizes) -> CachedLists {
    let lists = CachedLists::new(spans, rows, sizes);
    let mut want = vec![Vec::new(); rows * sizes.group];
    for span in spans {
        for t in 0..span.len {
            let positions = 0..=span.position + t;
            let seen: Vec<(u32, u32)> =
                positions.map(|p| (span.blocks[p / sizes.page], (p % sizes.page) as u32)).collect();
            for want in &mut want[(span.row + t) * sizes.group..][..sizes.group] {
                want.clone_from(&seen);
            }
        }
    }
    for (flat, (mut read, mut want)) in read(&lists, sizes, rows).into_iter().zip(want).enumerate() {
        read.sort_unstable();
        want.sort_unstable();
        assert_eq!(read, want, "{flat}");
    }
    // No two rows share a slot.
    let mut slots = lists.parts.clone();
    slots.sort_unstable();
    assert!(slots.windows(2).all(|pair| pair[0] < pair[1]), "{slots:?}");
    assert!(slots.last().is_none_or(|&last| (last as usize) < lists.n_slots));
    lists
}

#[test]
fn every_row_reads_each_position_it_sees_once() {
    let long: Vec<u32> = (100..200).collect();
    for (only, page) in [(None, 32), (Some(32), 32), (Some(16), 5)] {
        let spans = [
            CachedSpan { row: 0, len: 1, position: 0, blocks: &[9] },
            CachedSpan { row: 1, len: 1, position: 3 * page, blocks: &[1, 2, 3, 4] },
            CachedSpan { row: 2, len: 1, position: 4 * page - 1, blocks: &[1, 2, 3, 5] },
            CachedSpan { row: 3, len: 0, position: 4, blocks: &[7] },
            CachedSpan { row: 3, len: 30, position: page, blocks: &[6, 7, 8, 10, 11, 12, 13, 14] },
            CachedSpan { row: 33, len: 1, position: 2 * page, blocks: &[1, 2, 15] },
            CachedSpan { row: 34, len: 1, position: 99 * page, blocks: &long },
            CachedSpan { row: 35, len: 1, position: 2 * page - 1, blocks: &[1, 2] },
            CachedSpan { row: 36, len: 70, position: 20 * page, blocks: &long },
        ];
        check(&spans, 110, sizes(only, page));
    }
}

#[test]
fn rows_that_share_pages_read_them_in_one_tile() {
    let own: Vec<[u32; 5]> = (0..8).map(|row| [1, 2, 3, 10 + row, 20 + row]).collect();
    let spans: Vec<CachedSpan<'_>> = own
        .iter()
        .enumerate()
        .map(|(row, blocks)| CachedSpan { row, len: 1, position: 130 + row, blocks })
        .collect();
    let lists = check(&spans, 8, sizes(None, 32));
    // One tile for the shared pages, one for what each row has for itself.
    assert_eq!(lists.small_tiles.len(), 9);
    assert_eq!(lists.small_tiles.iter().filter(|tile| tile[2] == 16 && tile[4..6] == [0, 96]).count(), 1);
}

#[test]
fn tiles_of_a_long_span_end_where_their_last_row_does() {
    let blocks: Vec<u32> = (0..16).rev().collect();
    let spans = [CachedSpan { row: 0, len: 200, position: 100, blocks: &blocks }];
    // 400 flat rows; with two tiles enough, none is cut.
    let tiles =
        |enough| check(&spans, 203, CachedSizes { enough_tiles: [6, enough], ..sizes(None, 32) }).large_tiles;
    let part = |tile: &[u32; 8]| [tile[1], tile[2], tile[4], tile[5], tile[7]];
    let whole: Vec<[u32; 5]> = tiles(1).iter().map(part).collect();
    assert_eq!(
        whole,
        [[384, 16, 0, 300, 293], [256, 128, 0, 292, 229], [128, 128, 0, 228, 165], [0, 128, 0, 164, 101]]
    );
    // In chunks of at most 8 pages, of which the last is for rows that see it.
    let cut: Vec<[u32; 5]> = tiles(100).iter().map(part).collect();
    assert_eq!(cut.iter().filter(|tile| tile[2] == 0 && tile[3] <= 160).count(), 4);
    assert_eq!(cut.iter().filter(|tile| tile[2] == 160).count(), 4);
    assert_eq!(cut.len(), 8);
}

#[test]
fn rows_of_one_warp_are_two_small_tiles_and_more_are_a_large_one() {
    for (n_rows, small, large) in [(5, vec![15], vec![]), (8, vec![16, 8], vec![]), (11, vec![], vec![33])] {
        let own: Vec<[u32; 3]> = (0..n_rows as u32).map(|row| [1, 2, 10 + row]).collect();
        let spans: Vec<CachedSpan<'_>> = own
            .iter()
            .enumerate()
            .map(|(row, blocks)| CachedSpan { row, len: 1, position: 70, blocks })
            .collect();
        let lists = check(&spans, n_rows, CachedSizes { group: 3, ..sizes(None, 32) });
        let shared = |tiles: &[[u32; 8]]| -> Vec<u32> {
            tiles.iter().filter(|tile| tile[5] == 64).map(|tile| tile[2]).collect()
        };
        assert_eq!((shared(&lists.small_tiles), shared(&lists.large_tiles)), (small, large), "{n_rows} rows");
    }
}

#[test]
fn no_sharing_pattern_of_a_small_cache_is_read_wrongly() {
    // All page lists of two blocks and a third one for three rows, with open and full last pages.
    let lists: Vec<[u32; 3]> = (0..8).map(|bits| [bits & 1, 2 + (bits >> 1 & 1), 4 + (bits >> 2)]).collect();
    for a in &lists {
        for b in &lists {
            for (first, second) in [(0, 11), (3, 3), (7, 4), (10, 11), (11, 11)] {
                let spans = [
                    CachedSpan { row: 0, len: 1, position: first, blocks: a },
                    CachedSpan { row: 1, len: 1, position: second, blocks: b },
                    CachedSpan { row: 2, len: 1, position: 11, blocks: &lists[3] },
                ];
                check(&spans, 3, sizes(None, 4));
            }
        }
    }
}

#[test]
fn sequences_are_cut_until_there_are_enough_tiles() {
    let blocks: Vec<u32> = (0..64).collect();
    let spans = [CachedSpan { row: 0, len: 1, position: 2047, blocks: &blocks }];
    // Six would be 11 pages each.
    assert_eq!(check(&spans, 1, sizes(None, 32)).small_tiles.len(), 6);
    // A short one is not cut.
    let spans = [CachedSpan { row: 0, len: 1, position: 255, blocks: &blocks }];
    assert_eq!(check(&spans, 1, sizes(None, 32)).small_tiles.len(), 1);
}
