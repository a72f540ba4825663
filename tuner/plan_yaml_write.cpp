#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>

#include "kernels/file.h"
#include "tuner/plan_yaml.h"
#include "tuner/shares.h"

namespace tandem {
namespace {

/// As it is where that is safe in a flow map, else in double quotes.
std::string scalar(const std::string& text) {
  const auto plain = [](unsigned char c) {
    return std::isalnum(c) || c == '_' || c == '.' || c == '/';
  };
  const bool safe = !text.empty() && plain(static_cast<unsigned char>(text.front())) &&
                    text != "null" && text != "Null" && text != "NULL" &&
                    std::all_of(text.begin(), text.end(),
                                [&](unsigned char c) { return plain(c) || c == '-' || c == '+'; });
  if (safe) return text;
  std::string quoted = "\"";
  for (const unsigned char c : text) {
    if (c == '"' || c == '\\')
      quoted += {'\\', static_cast<char>(c)};
    else if (c < 0x20 || c == 0x7f)
      quoted += fmt::format("\\x{:02x}", c);
    else
      quoted += static_cast<char>(c);
  }
  return quoted + "\"";
}

std::string range_text(Range range) {
  return range.end == kOpenEnd ? fmt::format("[{}, open]", range.begin)
                               : fmt::format("[{}, {}]", range.begin, range.end);
}

/// Six digits: more than any measurement has, and the same text again once read back.
std::string figure(double value) { return fmt::format("{:.6g}", value); }

class Writer {
 public:
  Writer(const Plan& plan, const ModelSpec& model) : plan_(plan), model_(model) {
    for (const std::string& unit : plan.units) units_.push_back(scalar(unit));
  }

  std::string text() && {
    header();
    for (const Phase& phase : plan_.phases) this->phase(phase);
    line(0, "embedding: {}", units_[static_cast<size_t>(plan_.embedding)]);
    if (plan_.predicted) predicted(*plan_.predicted);
    if (plan_.measured) measured(*plan_.measured);
    return std::move(text_);
  }

 private:
  template <typename... Args>
  void line(int indent, fmt::format_string<Args...> format, Args&&... args) {
    text_.append(static_cast<size_t>(indent), ' ');
    text_ += fmt::format(format, std::forward<Args>(args)...) + "\n";
  }

  void header() {
    line(0, "version: {}", plan_.version);
    line(0, "model: {{name: {}, dtype: {}, fingerprint: {}, source: {}}}", scalar(plan_.model_name),
         scalar(plan_.model_dtype), scalar(plan_.model_fingerprint), scalar(plan_.model_source));
    line(0, "machine: {{name: {}, fingerprint: {}}}", scalar(plan_.machine_name),
         scalar(plan_.machine_fingerprint));
    line(0, "workload: {{context: {}, tokens: {}, prompt: {}}}", plan_.workload.context,
         plan_.workload.tokens, plan_.workload.prompt);
    line(0, "kv: {}", name(plan_.kv_dtype));
    line(0, "units: [{}]", fmt::join(units_, ", "));
    line(0, "phases:  # ranges leave their end out");
  }

  void phase(const Phase& phase) {
    line(2, "- tokens: {}", range_text(phase.tokens));
    line(4, "context: {}", range_text(phase.context));
    line(4, "layers:");
    for (const LayerPlan& layer : phase.layers) layers(layer);
    split(4, "lm_head", phase.lm_head, model_.vocab_size, kColumnAlign);
  }

  void layers(const LayerPlan& layer) {
    line(6, "- layers: {}", range_text(layer.layers));
    line(8, "attention:");
    for (const AttentionPart& part : layer.attention)
      line(10, "- {{unit: {}, kv_heads: {}, context: {}, new: {}}}",
           units_[static_cast<size_t>(part.unit)], range_text(part.kv_heads), context(part.context),
           part.new_tokens);
    if (layer.qkv != qkv_of_heads(model_, layer.attention))
      split(8, "qkv", layer.qkv, qkv_columns(model_), model_.qkv_columns_per_kv_head());
    split(8, "out", layer.out, model_.hidden_size, kColumnAlign);
    split(8, "gate_up", layer.gate_up, model_.intermediate_size, kColumnAlign);
    split(8, "down", layer.down, model_.hidden_size, kColumnAlign);
  }

  static std::string context(Range positions) {
    if (positions.empty()) return "none";
    return positions == kAll ? "all" : range_text(positions);
  }

  void split(int indent, const char* op, const LinearSplit& split, int64_t columns, int64_t align) {
    const std::vector<std::string> shares =
        shares_of(split, columns, align, plan_.units.size(), kHomes);
    std::vector<std::string> entries;
    for (size_t i = 0; i < shares.size(); ++i)
      if (shares[i] != "0") entries.push_back(fmt::format("{}: {}", holder(i), shares[i]));
    line(indent, "{}: {{{}}}", op, fmt::join(entries, ", "));
  }

  /// Key of a share: the unit, or the unit and where its weights lie.
  std::string holder(size_t i) const {
    const size_t unit = i / kHomes;
    return static_cast<Home>(i % kHomes) == Home::kResident
               ? units_[unit]
               : scalar(plan_.units[unit] + std::string(kStreamedSuffix));
  }

  void predicted(const Prediction& p) {
    const Rate& decode = p.decode_tokens_per_s;
    const Rate& prefill = p.prefill_tokens_per_s;
    line(0, "predicted:");
    line(2, "decode_tokens_per_s: {}", figure(decode.per_s));
    line(2, "decode_interval_90: [{}, {}]", figure(decode.low), figure(decode.high));
    line(2, "prefill_tokens_per_s: {}", figure(prefill.per_s));
    line(2, "prefill_interval_90: [{}, {}]", figure(prefill.low), figure(prefill.high));
    line(2, "lower_bound_s: {}", figure(p.lower_bound_s));
    line(2, "gap: {:.2f} %", p.gap * 100);
  }

  void measured(const Measurement& m) {
    line(0, "measured: {{decode_tokens_per_s: {}, prefill_tokens_per_s: {}, date: {}, state: {}}}",
         figure(m.decode_tokens_per_s), figure(m.prefill_tokens_per_s), scalar(m.date),
         scalar(m.state));
  }

  const Plan& plan_;
  const ModelSpec& model_;
  std::vector<std::string> units_;
  std::string text_;
};

}  // namespace

std::string plan_text(const Plan& plan, const ModelSpec& model) {
  return Writer(plan, model).text();
}

void write_plan(const Plan& plan, const ModelSpec& model, const std::string& path) {
  write_file_atomically(path, plan_text(plan, model));
}

}  // namespace tandem
