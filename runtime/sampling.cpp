#include "runtime/sampling.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "kernels/error.h"

namespace tandem {

int32_t greedy_token(std::span<const float> logits) {
  int32_t best = -1;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (std::isnan(logits[i])) continue;
    if (best < 0 || logits[i] > logits[static_cast<size_t>(best)]) best = static_cast<int32_t>(i);
  }
  if (best < 0) throw Error("no logit is a number: the model's weights are damaged");
  return best;
}

TokenSampler::TokenSampler(const SamplingOptions& options)
    : options_(options), random_(options.seed) {
  if (!(options.temperature >= 0 && std::isfinite(options.temperature)))
    throw Error(fmt::format("--temperature {}: expected 0 (greedy) or more", options.temperature));
  if (options.top_k < 0)
    throw Error(fmt::format("--top-k {}: expected 0 (all tokens) or more", options.top_k));
  if (!(options.top_p > 0 && options.top_p <= 1))
    throw Error(fmt::format("--top-p {}: expected more than 0 and at most 1", options.top_p));
}

/// The top_k largest logits, descending, ties by ascending token.
void TokenSampler::collect(std::span<const float> logits) {
  candidates_.clear();
  for (size_t i = 0; i < logits.size(); ++i)
    if (!std::isnan(logits[i])) candidates_.push_back({static_cast<int32_t>(i), logits[i]});
  const size_t all = candidates_.size();
  const size_t kept =
      options_.top_k == 0 ? all : std::min(all, static_cast<size_t>(options_.top_k));
  const auto before = [](const Candidate& a, const Candidate& b) {
    return a.weight != b.weight ? a.weight > b.weight : a.token < b.token;
  };
  std::partial_sort(candidates_.begin(), candidates_.begin() + static_cast<std::ptrdiff_t>(kept),
                    candidates_.end(), before);
  candidates_.resize(kept);
}

/// One of the candidates, which together weigh `total`.
int32_t TokenSampler::draw(double total) {
  // The upper 53 bits are a uniform double in [0, 1).
  double left = static_cast<double>(random_() >> 11) * 0x1p-53 * total;
  for (const Candidate& candidate : candidates_) {
    left -= candidate.weight;
    if (left < 0) return candidate.token;
  }
  return candidates_.back().token;
}

int32_t TokenSampler::next(std::span<const float> logits) {
  const int32_t greedy = greedy_token(logits);
  if (options_.temperature == 0 || std::isinf(logits[static_cast<size_t>(greedy)])) return greedy;
  collect(logits);
  const double largest = candidates_.front().weight;
  double total = 0;
  for (Candidate& candidate : candidates_) {
    candidate.weight = std::exp((candidate.weight - largest) / options_.temperature);
    total += candidate.weight;
  }
  double kept = 0;
  size_t count = 0;
  while (count < candidates_.size() && (count == 0 || kept < options_.top_p * total))
    kept += candidates_[count++].weight;
  candidates_.resize(count);
  return draw(kept);
}

}  // namespace tandem
