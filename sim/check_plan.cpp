// check_plan: the rules of a plan, each with the message of whoever broke it.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>
#include <string>
#include <utility>

#include "kernels/error.h"
#include "sim/plan.h"

namespace tandem {
namespace {

/// A set of units and of their links is a 64-bit mask in the cost model.
constexpr size_t kMaxUnits = 32;

constexpr std::array<std::pair<const char*, LinearSplit LayerPlan::*>, 4> kSplits{
    {{"qkv", &LayerPlan::qkv},
     {"out", &LayerPlan::out},
     {"gate_up", &LayerPlan::gate_up},
     {"down", &LayerPlan::down}}};

/// "4", or "0-3": the members of a range as people count them.
std::string members(Range r) {
  if (r.end == kOpenEnd) return fmt::format("{} and on", r.begin);
  return r.size() == 1 ? fmt::format("{}", r.begin) : fmt::format("{}-{}", r.begin, r.end - 1);
}

std::string interval(Range r) {
  return r.end == kOpenEnd ? fmt::format("[{}, open)", r.begin)
                           : fmt::format("[{}, {})", r.begin, r.end);
}

class Checker {
 public:
  Checker(const Plan& plan, const ModelSpec& model, const std::string& where)
      : plan_(plan), model_(model), where_(where) {}

  void check() const {
    check_units();
    if (plan_.phases.empty()) fail(where_, "there are no phases; expected at least one");
    for (size_t i = 0; i < plan_.phases.size(); ++i) check_phase(plan_.phases[i], phase_place(i));
    for (size_t i = 1; i < plan_.phases.size(); ++i) check_homes(i);
    for (size_t later = 1; later < plan_.phases.size(); ++later)
      for (size_t first = 0; first < later; ++first) check_weight_homes(first, later);
  }

 private:
  [[noreturn]] static void fail(const std::string& place, const std::string& what) {
    throw Error(place + ": " + what);
  }

  std::string phase_place(size_t index) const {
    return plan_.phases.size() == 1 ? where_ : fmt::format("{}: phase {}", where_, index + 1);
  }

  static std::string layer_place(const std::string& place, Range layers) {
    return fmt::format("{}: layers {}", place, members(layers));
  }

  const std::string& unit_name(int unit) const { return plan_.units[static_cast<size_t>(unit)]; }

  void check_unit(int unit, const std::string& place) const {
    if (unit < 0 || static_cast<size_t>(unit) >= plan_.units.size())
      fail(place,
           fmt::format("unit {} is not one of the plan's {} units", unit, plan_.units.size()));
  }

  void check_units() const {
    if (plan_.units.empty() || plan_.units.size() > kMaxUnits)
      fail(where_,
           fmt::format("there are {} units; expected 1 to {}", plan_.units.size(), kMaxUnits));
    std::set<std::string> seen;
    for (const std::string& unit : plan_.units)
      if (!seen.insert(unit).second)
        fail(where_, fmt::format("unit {} is listed twice; expected distinct names", unit));
    check_unit(plan_.embedding, where_ + ": embedding");
  }

  void check_phase(const Phase& phase, const std::string& place) const {
    if (phase.tokens.empty() || phase.tokens.begin < 1)
      fail(place, fmt::format("tokens {} hold no step; expected a range from 1 up",
                              interval(phase.tokens)));
    if (phase.context.empty() || phase.context.begin < 0)
      fail(place, fmt::format("context {} holds no step; expected a range from 0 up",
                              interval(phase.context)));
    int64_t next = 0;
    for (const LayerPlan& layer : phase.layers) {
      if (layer.layers.begin != next || layer.layers.empty())
        fail(place, fmt::format("layers {} follow layer {}; expected [{}, ...)",
                                interval(layer.layers), next - 1, next));
      next = layer.layers.end;
      check_layer(layer, layer_place(place, layer.layers));
    }
    if (next != model_.num_layers)
      fail(place, fmt::format("layers end at {}; expected all {} layers of {}", next,
                              model_.num_layers, model_.name));
    check_split(phase.lm_head, model_.vocab_size, kColumnAlign, place + ": lm_head");
  }

  void check_layer(const LayerPlan& layer, const std::string& place) const {
    check_split(layer.qkv, qkv_columns(model_), model_.qkv_columns_per_kv_head(), place + ": qkv");
    check_split(layer.out, model_.hidden_size, kColumnAlign, place + ": out");
    check_split(layer.gate_up, model_.intermediate_size, kColumnAlign, place + ": gate_up");
    check_split(layer.down, model_.hidden_size, kColumnAlign, place + ": down");
    check_attention(layer, place + ": attention");
  }

  /// Empty shares are legal: they say "nothing" where a share is 0.
  void check_split(const LinearSplit& split, int64_t columns, int64_t align,
                   const std::string& place) const {
    int64_t next = 0;
    for (const ColumnShare& share : split) {
      check_unit(share.unit, place);
      const Range r = share.columns;
      if (r.begin != next || r.end < r.begin || r.end > columns)
        fail(place, fmt::format("columns {} of {} do not continue at {}; expected disjoint, "
                                "ascending ranges that cover [0, {})",
                                interval(r), unit_name(share.unit), next, columns));
      if (r.end % align != 0 && r.end != columns)
        fail(place, fmt::format("columns {} of {} are not cut on a multiple of {}", interval(r),
                                unit_name(share.unit), align));
      next = r.end;
    }
    if (next != columns)
      fail(place, fmt::format("columns end at {}; expected all {}", next, columns));
  }

  void check_attention(const LayerPlan& layer, const std::string& place) const {
    for (const AttentionPart& part : layer.attention) check_part(part, place);
    for (int64_t head = 0; head < model_.num_kv_heads; ++head) {
      std::vector<AttentionPart> parts;
      for (const AttentionPart& part : layer.attention)
        if (part.kv_heads.contains(head)) parts.push_back(part);
      check_new_tokens(parts, head, place);
      check_positions(std::move(parts), head, place);
    }
  }

  void check_part(const AttentionPart& part, const std::string& place) const {
    check_unit(part.unit, place);
    if (part.kv_heads.empty() || !Range{0, model_.num_kv_heads}.contains(part.kv_heads))
      fail(place, fmt::format("kv heads {} of {}; expected some of [0, {})",
                              interval(part.kv_heads), unit_name(part.unit), model_.num_kv_heads));
    if (part.context.empty() && !part.new_tokens)
      fail(place, fmt::format("kv heads {} of {} have neither context nor new tokens",
                              members(part.kv_heads), unit_name(part.unit)));
    if (part.context.empty()) return;
    const bool end_is_cut = part.context.end != kOpenEnd;
    if (part.context.begin < 0 || part.context.begin % kAttentionChunk != 0 ||
        (end_is_cut && part.context.end % kAttentionChunk != 0))
      fail(place, fmt::format("context {} of {} is not cut on a multiple of {}",
                              interval(part.context), unit_name(part.unit), kAttentionChunk));
  }

  /// `parts` are those that hold the head.
  void check_new_tokens(const std::vector<AttentionPart>& parts, int64_t head,
                        const std::string& place) const {
    const AttentionPart* owner = nullptr;
    for (const AttentionPart& part : parts) {
      if (!part.new_tokens) continue;
      if (owner)
        fail(place, fmt::format("new tokens of kv head {} are on {} and {}", head,
                                unit_name(owner->unit), unit_name(part.unit)));
      owner = &part;
    }
    if (!owner)
      fail(place, fmt::format("new tokens of kv head {} are on no unit; expected one", head));
  }

  void check_positions(std::vector<AttentionPart> parts, int64_t head,
                       const std::string& place) const {
    std::erase_if(parts, [](const AttentionPart& part) { return part.context.empty(); });
    std::stable_sort(parts.begin(), parts.end(),
                     [](const AttentionPart& a, const AttentionPart& b) {
                       return a.context.begin < b.context.begin;
                     });
    int64_t next = 0;
    int previous = 0;
    for (const AttentionPart& part : parts) {
      if (part.context.begin > next) break;
      if (part.context.begin < next)
        fail(place, fmt::format("kv head {} at position {} is on {} and {}", head,
                                part.context.begin, unit_name(previous), unit_name(part.unit)));
      next = part.context.end;
      previous = part.unit;
    }
    if (next != kOpenEnd)
      fail(place, fmt::format("kv head {} at position {} is on no unit; expected one", head, next));
  }

  /// Every part of a later phase must find its keys and values in one home of the first phase.
  void check_homes(size_t phase) const {
    for (const LayerPlan& first : plan_.phases.front().layers) {
      const std::vector<KvHome> homes = layer_kv_homes(first);
      for (const LayerPlan& later : plan_.phases[phase].layers) {
        const Range layers = intersect(first.layers, later.layers);
        if (layers.empty()) continue;
        const std::string place = layer_place(phase_place(phase), layers) + ": attention";
        for (const AttentionPart& part : later.attention) check_home(part, homes, place);
      }
    }
  }

  void check_home(const AttentionPart& part, const std::vector<KvHome>& homes,
                  const std::string& place) const {
    if (part.context.empty()) return;
    for (const KvHome& home : homes) {
      const Range heads = intersect(home.kv_heads, part.kv_heads);
      const Range positions = intersect(home.positions, part.context);
      if (heads.empty() || positions.empty()) continue;
      if (home.unit != part.unit)
        fail(place,
             fmt::format("kv head {} at position {} is on {}, but on {} in phase 1; keys "
                         "and values do not move",
                         heads.begin, positions.begin, unit_name(part.unit), unit_name(home.unit)));
      if (heads != part.kv_heads || positions != part.context)
        fail(place,
             fmt::format("kv heads {} at positions {} of {} lie in several parts of phase "
                         "1; cut them as it does",
                         members(part.kv_heads), members(part.context), unit_name(part.unit)));
    }
  }

  /// Weights lie where one phase finds them for all phases.
  void check_weight_homes(size_t first, size_t later) const {
    const Phase &a = plan_.phases[first], &b = plan_.phases[later];
    check_weight_homes(a.lm_head, b.lm_head, first, phase_place(later) + ": lm_head");
    for (const LayerPlan& in_first : a.layers)
      for (const LayerPlan& in_later : b.layers) {
        const Range layers = intersect(in_first.layers, in_later.layers);
        if (layers.empty()) continue;
        for (const auto& [op, split] : kSplits)
          check_weight_homes(in_first.*split, in_later.*split, first,
                             layer_place(phase_place(later), layers) + ": " + op);
      }
  }

  void check_weight_homes(const LinearSplit& first, const LinearSplit& later, size_t first_phase,
                          const std::string& place) const {
    const auto name = [](Home home) { return home == Home::kStreamed ? "streamed" : "resident"; };
    for (const ColumnShare& a : first)
      for (const ColumnShare& b : later) {
        const Range both = intersect(a.columns, b.columns);
        if (a.unit != b.unit || a.home == b.home || both.empty()) continue;
        fail(place, fmt::format("columns {} of {} are {}, but {} in phase {}; a unit has a column "
                                "in one home",
                                interval(both), unit_name(a.unit), name(b.home), name(a.home),
                                first_phase + 1));
      }
  }

  const Plan& plan_;
  const ModelSpec& model_;
  const std::string& where_;
};

/// Calls f(op, layers, split) for every split of a plan; lm_head has no layers.
template <class Function>
void for_splits(const Plan& plan, const Function& f) {
  for (const Phase& phase : plan.phases) {
    for (const LayerPlan& layer : phase.layers)
      for (const auto& [op, split] : kSplits) f(op, layer.layers, layer.*split);
    f("lm_head", Range{}, phase.lm_head);
  }
}

}  // namespace

uint64_t streaming_units(const Plan& plan) {
  uint64_t units = 0;
  for_splits(plan, [&](const char*, Range, const LinearSplit& split) {
    for (const ColumnShare& share : split)
      if (share.home == Home::kStreamed && !share.columns.empty())
        units |= uint64_t{1} << share.unit;
  });
  return units;
}

void check_streaming_units(const Plan& plan, const std::vector<Unit>& units,
                           const std::string& where) {
  for_splits(plan, [&](const char* op, Range layers, const LinearSplit& split) {
    const std::string place = layers.empty() ? "" : fmt::format(": layers {}", members(layers));
    for (const ColumnShare& share : split) {
      const Unit& unit = units[static_cast<size_t>(share.unit)];
      if (share.home == Home::kStreamed && unit.kind != UnitKind::kCuda)
        throw Error(
            fmt::format("{}{}: {}: {}.streamed: {} is a CPU unit, which computes weights "
                        "where they lie; expected a CUDA unit",
                        where, place, op, unit.name, unit.name));
    }
  });
}

void check_plan(const Plan& plan, const ModelSpec& model, const std::string& where) {
  Checker(plan, model, where).check();
}

}  // namespace tandem
