// Meetings of the lanes of a warp: the barrier under every shuffle, vote and matrix instruction.
#include "block.h"

namespace simt {

unsigned char* meet(unsigned mask, const char* what, Rendezvous** meeting) {
  Fiber& f = running_fiber();
  Warp& warp = *f.warp;
  if (!(mask >> f.lane & 1)) fail("%s: mask %08x does not name the calling lane %u", what, mask, f.lane);
  if (mask & warp.born & ~warp.live) fail("%s: mask %08x names a lane that has ended", what, mask);
  for (Rendezvous* m : warp.meetings) {
    if (m->mask != mask) continue;
    *meeting = m;
    return m->slots[m->generation & 1];
  }
  Rendezvous* m = new Rendezvous;
  m->mask = mask;
  m->warp = &warp;
  warp.meetings.push_back(m);
  *meeting = m;
  return m->slots[0];
}

bool is_last(const Rendezvous* m) {
  return (m->arrived | 1u << g_thread->lane) == (m->mask & m->warp->live);
}

unsigned arrive(Rendezvous* m, const char* what) {
  const uint64_t seen = m->generation;
  m->arrived |= 1u << g_thread->lane;
  if (m->arrived == (m->mask & m->warp->live)) {
    m->took_part[seen & 1] = m->arrived;
    m->arrived = 0;
    ++m->generation;
    m->warp->all_met += m->mask == 0xffffffffu;
    if (strcmp(what, "__syncwarp") == 0) ++m->warp->barriers;
  } else {
    wait_while(&m->generation, seen, what);
  }
  return m->took_part[seen & 1];
}

}  // namespace simt
