#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "kernels/error.h"
#include "kernels/kv_format.h"
#include "profiles/checked_yaml.h"
#include "tuner/plan_yaml.h"
#include "tuner/shares.h"

namespace tandem {
namespace {

constexpr double kSumTolerance = 1e-6;

/// `[a, b]` half-open, where `open_end` also `[a, open]`; within `limits`.
Range read_range(const CheckedYaml& node, Range limits, bool open_end) {
  const std::vector<CheckedYaml> ends = node.items();
  if (ends.size() != 2)
    node.fail(fmt::format("found {} values; expected [begin, end]", ends.size()));
  const int64_t begin = ends[0].integer(limits.begin, limits.end);
  if (open_end && ends[1].is_scalar() && ends[1].text() == "open") return {begin, kOpenEnd};
  const int64_t end = ends[1].integer(limits.begin, limits.end);
  if (end <= begin) node.fail(fmt::format("[{}, {}] is empty; the end is left out", begin, end));
  return {begin, end};
}

Range read_open_range(const CheckedYaml& node, int64_t first) {
  return read_range(node, {first, kOpenEnd}, true);
}

int read_unit(const CheckedYaml& place, const std::string& unit, const Plan& plan) {
  const auto found = std::find(plan.units.begin(), plan.units.end(), unit);
  if (found == plan.units.end())
    place.fail(fmt::format("unit {} is not in units: {}", unit, fmt::join(plan.units, ", ")));
  return static_cast<int>(found - plan.units.begin());
}

/// Unit and home of `cpu0` or `gpu0.streamed`.
ColumnShare read_holder(const CheckedYaml& place, const std::string& key, const Plan& plan) {
  const auto is_unit = [&](std::string_view name) {
    return std::find(plan.units.begin(), plan.units.end(), name) != plan.units.end();
  };
  const size_t dot = key.rfind('.');
  if (is_unit(key) || dot == std::string::npos || !is_unit(key.substr(0, dot)))
    return {read_unit(place, key, plan), {}};
  const std::string unit = key.substr(0, dot);
  if (!is_link_name(key))
    place.fail(fmt::format("{} is no home of weights; expected {} or {}{}", key.substr(dot), unit,
                           unit, kStreamedSuffix));
  return {read_unit(place, unit, plan), {}, Home::kStreamed};
}

LinearSplit read_split(const CheckedYaml& node, const Plan& plan, int64_t columns, int64_t align) {
  std::vector<double> shares(kHomes * plan.units.size(), 0.0);
  double sum = 0;
  for (const auto& [key, share] : node.entries()) {
    const ColumnShare of = read_holder(share, key, plan);
    double& value = shares[kHomes * static_cast<size_t>(of.unit) + static_cast<size_t>(of.home)];
    value = share.number(0, 1);
    sum += value;
  }
  if (std::abs(sum - 1) > kSumTolerance)
    throw Error(
        fmt::format("{}: shares of {} sum to {:.6g}, not 1", node.place(), node.name(), sum));
  return split_by_shares(columns, shares, align, kHomes);
}

/// `all`, `none`, or a range of positions.
Range read_part_context(const CheckedYaml& node) {
  if (node.is_scalar()) {
    const std::string text = node.text();
    if (text == "all") return kAll;
    if (text == "none") return {0, 0};
    node.fail(fmt::format("{} is neither all, none nor [begin, end]", text));
  }
  const Range range = read_open_range(node, 0);
  const auto cut = [](int64_t p) { return p == kOpenEnd || p % kAttentionChunk == 0; };
  if (!cut(range.begin) || !cut(range.end))
    node.fail(fmt::format("cut at [{}, {}]; expected multiples of {}", node.items()[0].text(),
                          node.items()[1].text(), kAttentionChunk));
  return range;
}

AttentionPart read_part(const CheckedYaml& node, const Plan& plan, const ModelSpec& model) {
  node.allow_keys({"unit", "kv_heads", "context", "new"});
  const CheckedYaml unit = node.at("unit");
  return {read_unit(unit, unit.text(), plan),
          read_range(node.at("kv_heads"), {0, model.num_kv_heads}, false),
          read_part_context(node.at("context")), node.at("new").boolean()};
}

/// Checks the layers' parts alone, so that an overlapping or missing head is reported on their
/// line.
void check_attention(const CheckedYaml& node, const Plan& header, const LayerPlan& layer,
                     const ModelSpec& model) {
  Plan plan = header;
  LayerPlan everywhere = layer;
  everywhere.layers = {0, model.num_layers};
  plan.phases = {{.layers = {everywhere}, .lm_head = {{0, {0, model.vocab_size}}}}};
  check_plan(plan, model, node.place());
}

LayerPlan read_layers(const CheckedYaml& node, const Plan& plan, const ModelSpec& model) {
  node.allow_keys({"layers", "attention", "qkv", "out", "gate_up", "down"});
  const auto split = [&](const char* op, int64_t columns) {
    return read_split(node.at(op), plan, columns, kColumnAlign);
  };
  LayerPlan layer;
  layer.layers = read_range(node.at("layers"), {0, model.num_layers}, false);
  for (const CheckedYaml& part : node.at("attention").items())
    layer.attention.push_back(read_part(part, plan, model));
  if (const auto qkv = node.find("qkv"))
    layer.qkv = read_split(*qkv, plan, qkv_columns(model), model.qkv_columns_per_kv_head());
  else
    layer.qkv = qkv_of_heads(model, layer.attention);
  layer.out = split("out", model.hidden_size);
  layer.gate_up = split("gate_up", model.intermediate_size);
  layer.down = split("down", model.hidden_size);
  return layer;
}

Phase read_phase(const CheckedYaml& node, const Plan& plan, const ModelSpec& model) {
  node.allow_keys({"tokens", "context", "layers", "lm_head"});
  Phase phase;
  phase.tokens = read_open_range(node.at("tokens"), 1);
  phase.context = read_open_range(node.at("context"), 0);
  int64_t next = 0;
  for (const CheckedYaml& layers : node.at("layers").items()) {
    LayerPlan& layer = phase.layers.emplace_back(read_layers(layers, plan, model));
    if (layer.layers.begin != next)
      layers.at("layers").fail(fmt::format("begins at {}; expected {}", layer.layers.begin, next));
    next = layer.layers.end;
    // Where qkv follows the heads, a missing head would otherwise be reported as missing columns.
    LayerPlan heads = layer;
    heads.qkv = {{0, {0, qkv_columns(model)}}};
    check_attention(layers.at("attention"), plan, heads, model);
  }
  if (next != model.num_layers)
    node.at("layers").fail(
        fmt::format("ends at layer {}; {} has {}", next, model.name, model.num_layers));
  phase.lm_head = read_split(node.at("lm_head"), plan, model.vocab_size, kColumnAlign);
  return phase;
}

Rate read_rate(const CheckedYaml& node, const char* rate, const char* interval) {
  const std::vector<CheckedYaml> ends = node.at(interval).items();
  if (ends.size() != 2) node.at(interval).fail("expected [low, high]");
  return {node.at(rate).number(0), ends[0].number(0), ends[1].number(0)};
}

/// "0.4 %" as 0.004.
double read_percent(const CheckedYaml& node) {
  const std::string text = node.text();
  size_t used = 0;
  double value = 0;
  try {
    value = std::stod(text, &used);
  } catch (const std::exception&) {
    used = 0;
  }
  if (used == 0 || text.substr(used) != " %" || !std::isfinite(value))
    node.fail(fmt::format("{} is no percentage; expected one like 0.4 %", text));
  return value / 100;
}

Prediction read_prediction(const CheckedYaml& node) {
  node.allow_keys({"decode_tokens_per_s", "decode_interval_90", "prefill_tokens_per_s",
                   "prefill_interval_90", "lower_bound_s", "gap"});
  return {read_rate(node, "decode_tokens_per_s", "decode_interval_90"),
          read_rate(node, "prefill_tokens_per_s", "prefill_interval_90"),
          node.at("lower_bound_s").number(0), read_percent(node.at("gap"))};
}

Measurement read_measurement(const CheckedYaml& node) {
  node.allow_keys({"decode_tokens_per_s", "prefill_tokens_per_s", "date", "state"});
  return {node.at("decode_tokens_per_s").number(0), node.at("prefill_tokens_per_s").number(0),
          node.at("date").text(), node.at("state").text()};
}

void read_model(const CheckedYaml& node, Plan& plan) {
  node.allow_keys({"name", "dtype", "fingerprint", "source"});
  plan.model_name = node.at("name").text();
  plan.model_dtype = node.at("dtype").text();
  plan.model_fingerprint = node.at("fingerprint").text();
  plan.model_source = node.at("source").text();
}

void read_machine(const CheckedYaml& node, Plan& plan) {
  node.allow_keys({"name", "fingerprint"});
  plan.machine_name = node.at("name").text();
  plan.machine_fingerprint = node.at("fingerprint").text();
}

Workload read_workload(const CheckedYaml& node) {
  node.allow_keys({"context", "tokens", "prompt"});
  return {node.at("context").integer(0), node.at("tokens").integer(1),
          node.at("prompt").integer(0)};
}

DType read_kv_dtype(const CheckedYaml& node) {
  const auto dtype = parse_dtype(node.text());
  if (!dtype || !is_kv_format(*dtype))
    node.fail(
        fmt::format("{} is no dtype of a cache; expected {}", node.text(), kv_format_names()));
  return *dtype;
}

void read_units(const CheckedYaml& node, Plan& plan) {
  for (const CheckedYaml& unit : node.items()) {
    const std::string name = unit.text();
    if (std::find(plan.units.begin(), plan.units.end(), name) != plan.units.end())
      unit.fail(fmt::format("unit {} is listed twice", name));
    plan.units.push_back(name);
  }
  if (plan.units.empty()) node.fail("is empty; expected at least one unit");
}

/// Everything but the phases.
Plan read_header(const CheckedYaml& root) {
  root.allow_keys({"version", "model", "machine", "workload", "kv", "units", "phases", "embedding",
                   "predicted", "measured"});
  Plan plan;
  plan.version = static_cast<int>(root.at("version").integer());
  if (plan.version != 1)
    root.at("version").fail(fmt::format("{} is not known; expected 1", plan.version));
  read_model(root.at("model"), plan);
  read_machine(root.at("machine"), plan);
  plan.workload = read_workload(root.at("workload"));
  plan.kv_dtype = read_kv_dtype(root.at("kv"));
  read_units(root.at("units"), plan);
  plan.embedding = read_unit(root.at("embedding"), root.at("embedding").text(), plan);
  if (const auto predicted = root.find("predicted")) plan.predicted = read_prediction(*predicted);
  if (const auto measured = root.find("measured")) plan.measured = read_measurement(*measured);
  return plan;
}

}  // namespace

Plan read_plan_header(const std::string& path) { return read_header(CheckedYaml::load(path)); }

Plan read_plan(const std::string& path, const ModelSpec& model) {
  const CheckedYaml root = CheckedYaml::load(path);
  Plan plan = read_header(root);
  const std::string problem = kv_format_problem(plan.kv_dtype, model.head_dim);
  if (!problem.empty()) root.at("kv").fail(problem);
  const CheckedYaml phases = root.at("phases");
  const Plan header = plan;
  for (const CheckedYaml& phase : phases.items())
    plan.phases.push_back(read_phase(phase, header, model));
  check_plan(plan, model, phases.place());
  return plan;
}

}  // namespace tandem
