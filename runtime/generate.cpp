#include "runtime/generate.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/error.h"

namespace tandem {
namespace {

/// The last `size` values.
std::span<const float> last_row(std::span<const float> logits, int64_t rows) {
  return logits.last(logits.size() / static_cast<size_t>(rows));
}

class Generator {
 public:
  Generator(Executor& executor, const GenerateOptions& options)
      : executor_(executor), options_(options) {}

  GenerateResult run(std::span<const int32_t> prompt) {
    int32_t next = prefill(prompt);
    // Logits of the last new token need one step more than its choice does.
    for (int64_t left = options_.new_tokens; left > 0; --left) {
      if (options_.is_end && options_.is_end(next)) break;
      result_.tokens.push_back(next);
      if (options_.on_token) options_.on_token(next);
      const bool wanted = left > 1 || options_.all_logits;
      if (!wanted) break;
      next = step({.tokens = 1, .context = executor_.context(), .parents = {}}, {&next, 1}, true);
    }
    return std::move(result_);
  }

 private:
  int32_t prefill(std::span<const int32_t> prompt) {
    const int64_t context = executor_.context();
    const bool decode = prompt.size() == 1 && context > 0;
    int32_t next = 0;
    for (Step& part : prefill_steps(std::ssize(prompt), options_.max_tokens, context)) {
      if (options_.all_logits) part.logits_rows = part.tokens;
      next = step(part,
                  prompt.subspan(static_cast<size_t>(part.context - context),
                                 static_cast<size_t>(part.tokens)),
                  decode);
    }
    return next;
  }

  /// The token that follows the step's last.
  int32_t step(const Step& step, std::span<const int32_t> token_ids, bool decode) {
    const Timeline& timeline = executor_.run(step, token_ids);
    StepTimes& times = decode ? result_.decode : result_.prefill;
    times.tokens += step.tokens;
    times.step_s.push_back(timeline.makespan_s);
    const auto logits = executor_.logits();
    if (options_.on_step) options_.on_step({step, executor_.graph(), timeline, logits, decode});
    if (step.logits_rows == 0) return 0;
    const auto last = last_row(logits, step.logits_rows);
    if (options_.choose) return options_.choose(last);
    const int32_t best = executor_.argmax();
    if (std::isnan(last[static_cast<size_t>(best)]))
      throw Error("no logit is a number: the model's weights are damaged");
    return best;
  }

  Executor& executor_;
  const GenerateOptions& options_;
  GenerateResult result_;
};

}  // namespace

double StepTimes::total_s() const { return std::accumulate(step_s.begin(), step_s.end(), 0.0); }

double StepTimes::median_s() const { return median(step_s); }

double StepTimes::tokens_per_s() const {
  return step_s.empty() ? 0 : static_cast<double>(tokens) / total_s();
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const size_t middle = values.size() / 2;
  std::sort(values.begin(), values.end());
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

std::vector<Step> prefill_steps(int64_t tokens, int64_t max_tokens, int64_t context) {
  std::vector<Step> steps;
  for (int64_t done = 0; done < tokens;) {
    const int64_t size = std::min(max_tokens, tokens - done);
    const bool last = done + size == tokens;
    steps.push_back(
        {.tokens = size, .context = context + done, .logits_rows = last ? 1 : 0, .parents = {}});
    done += size;
  }
  return steps;
}

GenerateResult generate(Executor& executor, std::span<const int32_t> prompt,
                        const GenerateOptions& options) {
  return Generator(executor, options).run(prompt);
}

}  // namespace tandem
