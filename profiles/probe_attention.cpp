// Probes of attention parts over an f16 cache that lies in memory, as that of a deep model does.
#include <fmt/format.h>

#include <memory>

#include "profiles/probe_bench.h"
#include "profiles/walk.h"

namespace tandem {
namespace {

/// One call of an attention part; the cache moves on through memory with every call.
struct AttentionWork {
  const UnitBench* bench;
  int64_t head_dim;
  int64_t group;
  int64_t tokens;
  int64_t kv_heads;
  int64_t context;
  std::shared_ptr<Walk> walk;  ///< in bytes

  /// A view of `rows` positions from `memory` on.
  KvView view(int64_t rows, std::byte* memory) const {
    KvView kv{
        .kv_heads = {0, kv_heads}, .positions = {0, round_up(rows, 16)}, .head_dim = head_dim};
    kv.k = memory;
    kv.v = kv.k + kv_heads * kv.k_head_bytes();
    return kv;
  }
  static int64_t bytes(const KvView& kv) {
    return kv.kv_heads.size() * (kv.k_head_bytes() + kv.v_head_bytes());
  }

  void operator()() {
    const KvView step = view(tokens + 16, bench->exchanged->step.data());
    const int64_t cache_bytes = round_up(bytes(view(context, nullptr)), 4096);
    const int64_t next = walk->next(cache_bytes, bench->memory->kv_bytes);
    const int64_t stride = kv_heads * group * head_dim;
    const KvView cache = view(context, bench->memory->kv.get() + next);
    bench->device->attention({.tokens = tokens,
                              .past = context,
                              .kv_heads = {0, kv_heads},
                              .group = group,
                              .head_dim = head_dim,
                              .scale = 0.125f,
                              .q = bench->in(),
                              .q_stride = stride,
                              .cache = cache,
                              .context = {0, context},
                              .include_new = true,
                              .step = step,
                              .out = bench->out(),
                              .publish = !copies_results(*bench)});
  }
};

/// Wide steps have work enough in one head; narrow ones are asked for several.
int64_t kv_heads_for(int64_t tokens) { return tokens > 16 ? 1 : 4; }

/// Mean positions that a token of a chain sees: the context, itself and what is between.
double mean_positions(int64_t context, int64_t tokens) {
  return static_cast<double>(context) + static_cast<double>(tokens + 1) / 2;
}

/// Contexts of the grid that a call has time for, and no more of the cache than there is. At least
/// the first.
std::vector<int64_t> contexts_for(const UnitBench& bench, const Grid& grid,
                                  const AttentionCurve& curve) {
  std::vector<int64_t> kept;
  const int64_t kv_heads = kv_heads_for(curve.tokens);
  for (const int64_t context : grid.contexts) {
    const int64_t flops = 4 * kv_heads * curve.group * curve.tokens * context * curve.head_dim;
    const int64_t kv_bytes = kv_heads * context * curve.head_dim * 4;
    if (kept.empty() || (flops <= grid.max_flops && kv_bytes <= bench.memory->kv_bytes))
      kept.push_back(context);
  }
  return kept;
}

void add_curve(UnitBench& bench, const Grid& grid, AttentionCurve& curve, int number,
               const std::shared_ptr<Walk>& walk, std::vector<Case>& cases) {
  const int64_t kv_heads = kv_heads_for(curve.tokens);
  const std::vector<int64_t> contexts = contexts_for(bench, grid, curve);
  curve.seconds.points.resize(contexts.size());
  for (size_t i = 0; i < contexts.size(); ++i) {
    CurvePoint& point = curve.seconds.points[i];
    point.x = static_cast<double>(kv_heads) * mean_positions(contexts[i], curve.tokens);
    const AttentionWork start{&bench,   curve.head_dim, curve.group, curve.tokens,
                              kv_heads, contexts[i],    walk};
    cases.push_back({.what = bench.profile->unit.name + " attention",
                     .run =
                         [&bench, work = start](int repetitions) mutable {
                           return bench.time_cold(std::ref(work), repetitions);
                         },
                     .figure = &point.y,
                     .curve = number});
  }
}

/// The smallest part, after a matrix of weights: its one operand that is still in a cache is the
/// query, which both read.
void add_cold_start_case(UnitBench& bench, const AttentionCurve& smallest,
                         const std::shared_ptr<Walk>& walk, std::vector<Case>& cases) {
  const auto& [dtype, weights] = *bench.memory->weights.begin();
  const AttentionWork start{
      &bench, smallest.head_dim, smallest.group, smallest.tokens, kv_heads_for(smallest.tokens), 0,
      walk};
  cases.push_back(
      {.what = bench.profile->unit.name + " cold start",
       .run = [&bench,
               stream =
                   streaming(bench, dtype, weights->columns / 4 / kColumnAlign * kColumnAlign, 0),
               work = start](int) mutable { return bench.time_cold_start(stream, std::ref(work)); },
       .figure = &bench.profile->cold_start_s,
       .repeats = false});
}

}  // namespace

void add_attention_cases(UnitBench& bench, const Grid& grid, int& next_curve,
                         std::vector<Case>& cases) {
  std::vector<AttentionCurve>& curves = bench.profile->attention;
  for (const int64_t head_dim : grid.head_dims)
    for (const int64_t group : grid.groups)
      for (const int64_t tokens : grid.attention_tokens)
        curves.push_back({DType::kF16, head_dim, group, tokens, {}});
  const auto walk = std::make_shared<Walk>();
  for (AttentionCurve& curve : curves) add_curve(bench, grid, curve, next_curve++, walk, cases);
  if (!bench.device->enqueues()) add_cold_start_case(bench, curves.front(), walk, cases);
}

}  // namespace tandem
