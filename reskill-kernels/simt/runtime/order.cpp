// Orders of threads and blocks: from RESKILL_SIMT_ORDER, or set for one OS thread.
#include "order.h"

#include <stdio.h>
#include <stdlib.h>

#include <numeric>

namespace simt {

namespace {

thread_local bool g_has_order = false;
thread_local Order g_order;

Order parse(const char* text) {
  Order order;
  if (!text || !*text || !strcmp(text, "forward")) return order;
  if (!strcmp(text, "reverse")) {
    order.kind = OrderKind::kReverse;
    return order;
  }
  char* end = nullptr;
  if (!strncmp(text, "random:", 7)) {
    order.kind = OrderKind::kRandom;
    order.seed = strtoull(text + 7, &end, 10);
    if (end != text + 7 && !*end) return order;
  }
  fprintf(stderr, "reskill-simt: RESKILL_SIMT_ORDER=%s, expected forward, reverse or random:SEED\n", text);
  abort();
}

}  // namespace

Order current_order() { return g_has_order ? g_order : parse(getenv("RESKILL_SIMT_ORDER")); }

BlockSequence::BlockSequence(const Order& order, uint64_t total) : total_(total ? total : 1) {
  if (order.kind == OrderKind::kReverse) {
    offset_ = total_ - 1;
    step_ = total_ - 1 ? total_ - 1 : 1;  // -1 modulo total
  }
  if (order.kind == OrderKind::kRandom) {
    std::mt19937_64 rng(order.seed * 2 + 1);
    offset_ = rng() % total_;
    do step_ = total_ == 1 ? 1 : 1 + rng() % (total_ - 1);
    while (std::gcd(step_, total_) != 1);
  }
}

}  // namespace simt

// kind: 0 forward, 1 reverse, 2 random, 3 as the environment says.
extern "C" __attribute__((visibility("default"))) void reskill_simt_set_order(int kind, uint64_t seed) {
  simt::g_has_order = kind >= 0 && kind <= 2;
  if (simt::g_has_order) simt::g_order = {static_cast<simt::OrderKind>(kind), seed};
}
