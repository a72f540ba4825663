// Chooses the next token from logits: greedy or sampled. It knows no text and no model.
#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <vector>

namespace tandem {

struct SamplingOptions {
  double temperature = 0;  ///< divides the logits; 0 = greedy
  int64_t top_k = 40;      ///< only the so many largest logits are drawn from; 0 = all
  double top_p = 1;        ///< only the fewest tokens whose probabilities sum to this; in (0, 1]
  uint64_t seed = 1;
};

/// Index of the largest logit; ties go to the lowest index. Values that are no numbers never win.
int32_t greedy_token(std::span<const float> logits);

/// Draws tokens one after the other. The same options and logits give the same tokens on every
/// machine: the generator and the arithmetic are spelled out, no std:: distribution is used.
class TokenSampler {
 public:
  /// Error for a negative temperature or top_k, or a top_p outside (0, 1].
  explicit TokenSampler(const SamplingOptions& options);

  /// `logits` is [vocab_size]. Error where none of them is a number.
  int32_t next(std::span<const float> logits);

 private:
  struct Candidate {
    int32_t token = 0;
    double weight = 0;  ///< the logit, then the unnormalised probability
  };

  void collect(std::span<const float> logits);
  int32_t draw(double total);

  SamplingOptions options_;
  std::mt19937_64 random_;
  std::vector<Candidate> candidates_;  ///< kept between calls so that none allocates
};

}  // namespace tandem
