#include "tuner/dtype_mix.h"

#include <algorithm>
#include <array>
#include <cassert>

namespace tandem {
namespace {

/// The dtype of a tensor of layer `layer` of `layers`.
using Choice = DType (*)(int64_t layer, int64_t layers);

template <DType kDType>
constexpr DType always(int64_t, int64_t) {
  return kDType;
}

/// The first and the last eighth, and every third between them: where errors cost most.
constexpr bool matters_more(int64_t layer, int64_t layers) {
  const int64_t eighth = layers / 8;
  return layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2;
}

template <DType kMost, DType kSome>
constexpr DType more_where_it_matters(int64_t layer, int64_t layers) {
  return matters_more(layer, layers) ? kSome : kMost;
}

template <DType kMost, DType kFirst, int kCount>
constexpr DType more_at_first(int64_t layer, int64_t) {
  return layer < kCount ? kFirst : kMost;
}

/// The first 1/kPart of the layers.
template <DType kMost, DType kFirst, int kPart>
constexpr DType more_in_first(int64_t layer, int64_t layers) {
  return layer < layers / kPart ? kFirst : kMost;
}

struct Mix {
  std::string_view name;
  DType most;
  Choice v, out, down;
};

constexpr DType kQ3 = DType::kQ3_K, kQ4 = DType::kQ4_K, kQ5 = DType::kQ5_K, kQ6 = DType::kQ6_K;
constexpr std::array<Mix, 7> kMixes{{
    {"q3_k_s", kQ3, always<kQ3>, always<kQ3>, always<kQ3>},
    {"q3_k_m", kQ3, more_at_first<kQ4, kQ5, 2>, always<kQ4>, more_in_first<kQ4, kQ5, 16>},
    {"q3_k_l", kQ3, always<kQ5>, always<kQ5>, always<kQ5>},
    {"q4_k_s", kQ4, more_at_first<kQ4, kQ5, 4>, always<kQ4>, more_in_first<kQ4, kQ5, 8>},
    {"q4_k_m", kQ4, more_where_it_matters<kQ4, kQ6>, always<kQ4>, more_where_it_matters<kQ4, kQ6>},
    {"q5_k_s", kQ5, always<kQ5>, always<kQ5>, always<kQ5>},
    {"q5_k_m", kQ5, more_where_it_matters<kQ5, kQ6>, always<kQ5>, more_where_it_matters<kQ5, kQ6>},
}};

const Mix* find(std::string_view name) {
  const auto at = std::ranges::find(kMixes, name, &Mix::name);
  return at == kMixes.end() ? nullptr : &*at;
}

}  // namespace

std::vector<std::string> mix_names() {
  std::vector<std::string> names;
  for (const Mix& mix : kMixes) names.emplace_back(mix.name);
  return names;
}

bool is_mix(std::string_view name) { return find(name) != nullptr; }

void apply_mix(std::string_view name, ModelSpec& model) {
  const Mix* mix = find(name);
  assert(mix != nullptr);
  const DType most = mix->most;
  model.mix = name;
  // Every output comes through the head.
  model.lm_head = kQ6;
  model.embedding = model.tied_embedding ? kQ6 : most;
  model.layers.clear();
  for (int64_t layer = 0; layer < model.num_layers; ++layer)
    model.layers.push_back({.q = most,
                            .k = most,
                            .v = mix->v(layer, model.num_layers),
                            .out = mix->out(layer, model.num_layers),
                            .gate = most,
                            .up = most,
                            .down = mix->down(layer, model.num_layers)});
}

}  // namespace tandem
