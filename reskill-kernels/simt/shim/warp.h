// Warp collectives: barriers of some lanes, shuffles, votes, and whole-warp functions.
//
// The lanes that a mask names meet at a rendezvous. Each writes what it brings into its slot, the last to arrive may
// compute for all, and every lane reads its result. Slots are double-buffered: one meeting a shuffle is enough.
#pragma once
#include "thread.h"

namespace simt {

struct Rendezvous;

constexpr size_t kSlotBytes = 64;  // the most a lane may bring or take

// Opens the meeting that `mask` names and returns the slots of its lanes (32 times kSlotBytes).
unsigned char* meet(unsigned mask, const char* what, Rendezvous** meeting);
// Whether all other lanes have arrived.
bool is_last(const Rendezvous* meeting);
// Arrives and waits for the rest; returns the lanes that took part.
unsigned arrive(Rendezvous* meeting, const char* what);

// Every lane brings `value`; the result holds all of them, by lane, until this lane's next-but-one meeting.
template <class T>
const T* exchange(unsigned mask, const T& value, const char* what, unsigned* lanes) {
  static_assert(sizeof(T) <= kSlotBytes, "a slot is too small");
  Rendezvous* meeting;
  T* slots = reinterpret_cast<T*>(meet(mask, what, &meeting));
  memcpy(static_cast<void*>(&slots[g_thread->lane]), &value, sizeof(T));
  *lanes = arrive(meeting, what);
  return slots;
}

// Whole-warp function: the last lane computes `f(const In in[32], Out out[32])` for all 32.
template <class Out, class In, class F>
Out collective(const In& in, F f, const char* what) {
  static_assert(sizeof(In) <= kSlotBytes && sizeof(Out) <= kSlotBytes, "a slot is too small");
  Rendezvous* meeting;
  unsigned char* slots = meet(0xffffffffu, what, &meeting);
  memcpy(static_cast<void*>(slots + g_thread->lane * sizeof(In)), &in, sizeof(In));
  if (is_last(meeting)) {
    Out out[32];
    f(reinterpret_cast<const In*>(slots), out);
    memcpy(slots, out, sizeof out);
  }
  if (arrive(meeting, what) != 0xffffffffu) fail("%s needs all 32 lanes of a warp", what);
  Out result;
  memcpy(static_cast<void*>(&result), slots + g_thread->lane * sizeof(Out), sizeof(Out));
  return result;
}

template <class T>
T shuffle(unsigned mask, T value, int source, const char* what) {
  unsigned lanes;
  const T* all = exchange(mask, value, what, &lanes);
  if (!(lanes >> source & 1)) fail("%s reads lane %d, which does not take part", what, source);
  return all[source];
}

// First lane and one past the last of the group of `width` lanes that the calling lane is in.
inline int group_begin(int width) { return (int)g_thread->lane & ~(width - 1); }
inline int group_end(int width) { return group_begin(width) + width; }

}  // namespace simt

static inline void __syncwarp(unsigned mask = 0xffffffffu) {
  simt::Rendezvous* meeting;
  simt::meet(mask, "__syncwarp", &meeting);
  simt::arrive(meeting, "__syncwarp");
}
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  return simt::shuffle(mask, value, simt::group_begin(width) | (source & (width - 1)), "__shfl_sync");
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int flip, int width = 32) {
  const int lane = (int)simt::g_thread->lane, source = lane ^ flip;
  return simt::shuffle(mask, value, source >= simt::group_end(width) ? lane : source, "__shfl_xor_sync");
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32) {
  const int lane = (int)simt::g_thread->lane, source = lane + (int)by;
  return simt::shuffle(mask, value, source >= simt::group_end(width) ? lane : source, "__shfl_down_sync");
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32) {
  const int lane = (int)simt::g_thread->lane, source = lane - (int)by;
  return simt::shuffle(mask, value, source < simt::group_begin(width) ? lane : source, "__shfl_up_sync");
}
static inline unsigned __ballot_sync(unsigned mask, int predicate) {
  unsigned lanes, votes = 0;
  const unsigned char* all = simt::exchange(mask, (unsigned char)(predicate != 0), "__ballot_sync", &lanes);
  for (int lane = 0; lane < 32; ++lane)
    if (lanes >> lane & 1) votes |= (unsigned)all[lane] << lane;
  return votes;
}
static inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
static inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, !predicate) == 0; }
template <class T>
unsigned __match_any_sync(unsigned mask, T value) {
  unsigned lanes, equal = 0;
  const T* all = simt::exchange(mask, value, "__match_any_sync", &lanes);
  for (int lane = 0; lane < 32; ++lane)
    if ((lanes >> lane & 1) && memcmp(&all[lane], &value, sizeof(T)) == 0) equal |= 1u << lane;
  return equal;
}
template <class T, class F>
T simt_reduce_sync(unsigned mask, T value, F f, const char* what) {
  unsigned lanes;
  const T* all = simt::exchange(mask, value, what, &lanes);
  T result = value;
  bool first = true;
  for (int lane = 0; lane < 32; ++lane)
    if (lanes >> lane & 1) { result = first ? all[lane] : f(result, all[lane]); first = false; }
  return result;
}
template <class T>
T __reduce_add_sync(unsigned mask, T value) {
  return simt_reduce_sync(mask, value, [](T a, T b) { return (T)(a + b); }, "__reduce_add_sync");
}
template <class T>
T __reduce_max_sync(unsigned mask, T value) {
  return simt_reduce_sync(mask, value, [](T a, T b) { return a > b ? a : b; }, "__reduce_max_sync");
}
template <class T>
T __reduce_min_sync(unsigned mask, T value) {
  return simt_reduce_sync(mask, value, [](T a, T b) { return a < b ? a : b; }, "__reduce_min_sync");
}
// Lanes of a warp run one after another here, so the lanes that meet a statement together are not known.
static inline unsigned __activemask() { simt::fail("__activemask has no meaning that a kernel may rely on"); }
