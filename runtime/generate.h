// Feeds a prompt through an executor and lets it write on, token by token. It prints nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "runtime/executor.h"

namespace tandem {

/// One executed step, as the callbacks see it. `timeline` and `graph` hold until the next step.
struct StepRun {
  const Step& step;
  const TaskGraph& graph;
  const Timeline& timeline;
  std::span<const float> logits;  ///< [step.logits_rows x vocab_size]
  bool decode = false;            ///< one token of the continuation, not of the prompt
};

struct GenerateOptions {
  int64_t new_tokens = 0;    ///< at most
  int64_t max_tokens = 512;  ///< of one prefill step; what the executor was built for
  bool all_logits = false;   ///< logits of every prompt token and of the last new token as well
  /// Chooses the next token; `logits` is [vocab_size]. Empty: greedy.
  std::function<int32_t(std::span<const float> logits)> choose;
  std::function<bool(int32_t token)> is_end;        ///< empty: nothing ends the text
  std::function<void(int32_t token)> on_token;      ///< every new token as it comes
  std::function<void(const StepRun& run)> on_step;  ///< every step after it ran, untimed
};

/// Steps of one kind.
struct StepTimes {
  int64_t tokens = 0;
  std::vector<double> step_s;  ///< makespan of each

  double total_s() const;
  double median_s() const;      ///< 0 without steps
  double tokens_per_s() const;  ///< 0 without steps
};

struct GenerateResult {
  std::vector<int32_t> tokens;  ///< new ones; a token that ended the text is not among them
  StepTimes prefill;
  StepTimes decode;
};

/// Middle of the sorted values, mean of the two in the middle; 0 of none.
double median(std::vector<double> values);

/// The steps that take `tokens` tokens in behind `context` positions, none longer than max_tokens;
/// only the last has a row of logits.
std::vector<Step> prefill_steps(int64_t tokens, int64_t max_tokens, int64_t context);

/// Runs `prompt` behind executor.context() positions, then decodes. A prompt of one token behind a
/// filled cache is decoding at depth, and counted as such.
GenerateResult generate(Executor& executor, std::span<const int32_t> prompt,
                        const GenerateOptions& options);

}  // namespace tandem
