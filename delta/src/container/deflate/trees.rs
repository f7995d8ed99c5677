//! Prefix codes as zlib builds them: ties are broken by depth and place, and codes that grow too
//! long are shortened in its way, since the bytes depend on both.

use alloc::vec::Vec;

/// A heap of nodes, the rarest first; of equally rare ones the flattest.
struct Heap<'a> {
    /// From place 1 on.
    nodes: Vec<u16>,
    freq: &'a mut [u32],
    depth: &'a mut [u8],
}

impl Heap<'_> {
    fn is_before(&self, a: u16, b: u16) -> bool {
        let key = |node: u16| (self.freq[usize::from(node)], self.depth[usize::from(node)]);
        key(a) <= key(b)
    }

    /// Lets the node at `at` sink to where it belongs.
    fn sink(&mut self, mut at: usize) {
        let node = self.nodes[at];
        let len = self.nodes.len() - 1;
        while 2 * at <= len {
            let mut child = 2 * at;
            if child < len && self.is_before(self.nodes[child + 1], self.nodes[child]) {
                child += 1;
            }
            if self.is_before(node, self.nodes[child]) {
                break;
            }
            self.nodes[at] = self.nodes[child];
            at = child;
        }
        self.nodes[at] = node;
    }
}

/// Most symbols of any code.
const SYMBOLS_MAX: usize = 286;
const NODES_MAX: usize = 2 * SYMBOLS_MAX + 1;

/// The lengths of the code for symbols that occur so often, none longer than `len_max`.
///
/// A code has two symbols at least; where fewer occur the first ones are added.
pub(super) fn lens<const N: usize>(counts: &[u32; N], len_max: u8) -> [u8; N] {
    const { assert!(N <= SYMBOLS_MAX) };
    let mut freq = [0u32; NODES_MAX];
    let mut depth = [0u8; NODES_MAX];
    let mut parent = [0u16; NODES_MAX];
    freq[..N].copy_from_slice(counts);
    let mut nodes = Vec::from([0u16]);
    nodes.extend((0..N as u16).filter(|symbol| counts[usize::from(*symbol)] > 0));
    // The first of these two that does not occur; when only one does and it is neither, the first.
    let mut last = nodes
        .last()
        .copied()
        .filter(|_| nodes.len() > 1)
        .map_or(-1, i32::from);
    while nodes.len() < 3 {
        let added = if last < 2 {
            last += 1;
            last as u16
        } else {
            0
        };
        freq[usize::from(added)] = 1;
        nodes.push(added);
    }
    let mut heap = Heap {
        nodes,
        freq: &mut freq,
        depth: &mut depth,
    };
    for at in (1..=(heap.nodes.len() - 1) / 2).rev() {
        heap.sink(at);
    }

    // Joined nodes in order, the rarest last as it is taken: from the root down when read backwards.
    let (mut taken, mut next) = (Vec::with_capacity(NODES_MAX), N as u16);
    while heap.nodes.len() > 2 {
        let rarest = heap.nodes[1];
        heap.nodes[1] = heap.nodes.pop().expect("there are two");
        heap.sink(1);
        let second = heap.nodes[1];
        taken.extend([rarest, second]);
        let (a, b) = (usize::from(rarest), usize::from(second));
        heap.freq[usize::from(next)] = heap.freq[a] + heap.freq[b];
        heap.depth[usize::from(next)] = heap.depth[a].max(heap.depth[b]) + 1;
        parent[a] = next;
        parent[b] = next;
        heap.nodes[1] = next;
        next += 1;
        heap.sink(1);
    }
    let root = heap.nodes[1];
    limited(&taken, &parent, root, len_max)
}

/// Lengths by depth, those beyond `len_max` brought under it.
fn limited<const N: usize>(taken: &[u16], parent: &[u16], root: u16, len_max: u8) -> [u8; N] {
    let mut len = [0u8; NODES_MAX];
    let mut count = [0u16; 17];
    let mut beyond = 0i32;
    debug_assert!(usize::from(root) >= N, "two symbols make an inner node");
    for node in taken.iter().rev().map(|node| usize::from(*node)) {
        let mut bits = len[usize::from(parent[node])] + 1;
        if bits > len_max {
            bits = len_max;
            beyond += 1;
        }
        len[node] = bits;
        if node < N {
            count[usize::from(bits)] += 1;
        }
    }
    if beyond > 0 {
        let longest = usize::from(len_max);
        while beyond > 0 {
            let mut bits = longest - 1;
            while count[bits] == 0 {
                bits -= 1;
            }
            count[bits] -= 1;
            count[bits + 1] += 2;
            count[longest] -= 1;
            beyond -= 2;
        }
        // The rarest take the longest codes.
        let mut leaves = taken.iter().filter(|node| usize::from(**node) < N);
        for bits in (1..=longest).rev() {
            for node in leaves.by_ref().take(usize::from(count[bits])) {
                len[usize::from(*node)] = bits as u8;
            }
        }
    }
    let mut out = [0; N];
    out.copy_from_slice(&len[..N]);
    out
}
