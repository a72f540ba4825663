#include "tuner/plan_yaml.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <numeric>
#include <sstream>

#include "kernels/error.h"
#include "kernels/file.h"
#include "kernels/kv_format.h"
#include "tests/tuner/tiny_model.h"
#include "tuner/legal_plans.h"
#include "tuner/shares.h"

using namespace tandem;

namespace {

/// A file of its own that goes away with the test.
struct PlanFile {
  std::string path = std::filesystem::temp_directory_path() /
                     ("plan_yaml_test_" + std::to_string(getpid()) + ".yaml");
  ~PlanFile() { std::filesystem::remove(path); }
  std::string text() const {
    std::stringstream text;
    text << std::ifstream(path).rdbuf();
    return text.str();
  }
};

/// Lines 1 to 19; three kv heads, hidden 64.
constexpr const char* kPlan = R"(version: 1
model: {name: tiny, dtype: f32, fingerprint: 12ab, source: "shapes/tiny one.yaml"}
machine: {name: here, fingerprint: 34cd}
workload: {context: 512, tokens: 1, prompt: 64}
kv: f16
units: [cpu0, cpu1]
phases:
  - tokens: [1, open]
    context: [0, open]
    layers:
      - layers: [0, 2]
        attention:
          - {unit: cpu0, kv_heads: [0, 2], context: all, new: true}
          - {unit: cpu1, kv_heads: [2, 3], context: [0, 256], new: false}
          - {unit: cpu0, kv_heads: [2, 3], context: [256, open], new: false}
          - {unit: cpu1, kv_heads: [2, 3], context: none, new: true}
        out: {cpu0: 0.75, cpu1: 0.25}
        gate_up: {cpu0: 1}
        down: {cpu1: 0.5, cpu0: 0.5}
    lm_head: {cpu0: 0.3, cpu1: 0.7}
embedding: cpu1
)";

const ModelSpec& model() {
  static const ModelSpec spec = tiny_model({.kv_heads = 3, .layers = 2});
  return spec;
}

/// The message for kPlan with `from` replaced by `to`, without the folder; "" where it reads.
std::string message(const std::string& from, const std::string& to) {
  std::string text = kPlan;
  const size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  text.replace(at, from.size(), to);
  const PlanFile file;
  write_file_atomically(file.path, text);
  try {
    read_plan(file.path, model());
  } catch (const Error& e) {
    return std::string(e.what()).substr(file.path.size());
  }
  return "";
}

}  // namespace

TEST_CASE("columns go by largest remainder, ties to the earlier unit") {
  // 6 blocks of 16: 4.5 and 1.5 -> 4 and 1, one left over, equal remainders -> the first.
  CHECK(split_columns(96, std::vector{0.75, 0.25}, 16) == std::vector<Range>{{0, 80}, {80, 96}});
  // 10 blocks: 3, 0 and 7 exactly, although 0.3 * 10 is below 3 in binary.
  CHECK(split_columns(10, std::vector{0.3, 0.0, 0.7}, 1) ==
        std::vector<Range>{{0, 3}, {3, 3}, {3, 10}});
  // 100 columns are 7 blocks, the last of 4: 3.5 each -> 4 and 3.
  CHECK(split_columns(100, std::vector{0.5, 0.5}, 16) == std::vector<Range>{{0, 64}, {64, 100}});
  // A share too small for a block gets none.
  CHECK(split_columns(32, std::vector{0.9, 0.1}, 16) == std::vector<Range>{{0, 32}, {32, 32}});
}

TEST_CASE("shares are as short as they can be and give the same columns again") {
  CHECK(shares_of({{0, {0, 48}}, {1, {48, 64}}}, 64, 16, 2) ==
        std::vector<std::string>{"0.8", "0.2"});  // 0.8 of 4 blocks is 3.2, so 3
  CHECK(shares_of({{1, {0, 64}}}, 64, 16, 3) == std::vector<std::string>{"0", "1", "0"});
  for (const int64_t blocks : {1, 7, 896, 8016})
    for (int64_t cut = 0; cut <= blocks; cut += 1 + blocks / 97) {
      LinearSplit split = {{0, {0, cut * 16}}, {1, {cut * 16, blocks * 16 - 3}}};
      std::erase_if(split, [](const ColumnShare& share) { return share.columns.empty(); });
      if (split.front().columns.end > blocks * 16 - 3) split.front().columns.end = blocks * 16 - 3;
      std::vector<double> shares;
      for (const std::string& text : shares_of(split, blocks * 16 - 3, 16, 2)) {
        CHECK(text.size() <= 7);
        shares.push_back(std::stod(text));
      }
      CHECK(split_by_shares(blocks * 16 - 3, shares, 16) == split);
    }
}

TEST_CASE("a plan is read as the ranges it means") {
  const PlanFile file;
  write_file_atomically(file.path, kPlan);
  const Plan plan = read_plan(file.path, model());
  const LayerPlan& layer = plan.phases.front().layers.front();
  CHECK(plan.model_source == "shapes/tiny one.yaml");
  CHECK(plan.workload.prompt == 64);
  CHECK(plan.embedding == 1);
  CHECK(layer.attention[2] == AttentionPart{0, {2, 3}, {256, kOpenEnd}, false});
  CHECK(layer.attention[3] == AttentionPart{1, {2, 3}, {0, 0}, true});
  // A kv head has 2 query heads, K and V of 16: 64 columns, on the unit that takes its new tokens.
  CHECK(layer.qkv == LinearSplit{{0, {0, 128}}, {1, {128, 192}}});
  CHECK(layer.out == LinearSplit{{0, {0, 48}}, {1, {48, 64}}});
  CHECK(layer.gate_up == LinearSplit{{0, {0, 96}}});
  CHECK(layer.down == LinearSplit{{0, {0, 32}}, {1, {32, 64}}});
  // 7 blocks of lm_head: 2.1 and 4.9 -> 2 and 5.
  CHECK(plan.phases.front().lm_head == LinearSplit{{0, {0, 32}}, {1, {32, 112}}});
  const Plan header = read_plan_header(file.path);
  CHECK(header.model_name == "tiny");
  CHECK(header.phases.empty());
}

TEST_CASE("a unit of several attention parts may have several ranges of qkv, and reads back") {
  Plan plan = even_plan(model(), {"cpu0", "cpu1"});
  LayerPlan& layer = plan.phases.front().layers.front();
  const Range all{0, kOpenEnd};
  layer.attention = {{0, {0, 1}, all, true}, {1, {1, 2}, all, true}, {0, {2, 3}, all, true}};
  layer.qkv = qkv_of_heads(model(), layer.attention);
  CHECK(layer.qkv == LinearSplit{{0, {0, 64}}, {1, {64, 128}}, {0, {128, 192}}});
  const PlanFile file;
  write_plan(plan, model(), file.path);
  CHECK(read_plan(file.path, model()).phases == plan.phases);
}

TEST_CASE("random plans read back to exactly the ranges that were written") {
  std::mt19937_64 random(20);
  const PlanFile file;
  for (int i = 0; i < 200; ++i) {
    const ModelSpec spec = tiny_model({.hidden = 64 + 16 * (i % 7),
                                       .intermediate = 2048 + 16 * (i % 50),
                                       .kv_heads = 1 + i % 8,
                                       .head_dim = 32,
                                       .layers = 1 + i % 5,
                                       .vocab = 32000 + i});
    std::vector<std::string> units = {"cpu0", "cpu1", "gpu 0", "null"};
    units.resize(static_cast<size_t>(1 + i % 4));
    Plan plan = random_plan(spec, units, random);
    plan.model_source = "a \"b\" \\ c\n";
    plan.kv_dtype = kKvFormats[static_cast<size_t>(i) % kKvFormats.size()];
    write_plan(plan, spec, file.path);
    const Plan read = read_plan(file.path, spec);
    REQUIRE(read.phases == plan.phases);
    CHECK(read.units == plan.units);
    CHECK(read.embedding == plan.embedding);
    CHECK(read.kv_dtype == plan.kv_dtype);
    CHECK(read.model_source == plan.model_source);
    CHECK(read.model_fingerprint == plan.model_fingerprint);
    CHECK(plan_text(read, spec) == file.text());
  }
}

TEST_CASE("predicted and measured figures survive, and writing again changes nothing") {
  Plan plan = single_unit_plan(model(), {"cpu0"}, 0);
  plan.predicted = {{55.25, 52.5, 57}, {1234.5678, 1200, 1300}, 0.018021234, 0.00414};
  plan.measured = {54.1, 1230.5, "2026-11-24", "near"};
  const PlanFile file;
  write_plan(plan, model(), file.path);
  const Plan read = read_plan(file.path, model());
  CHECK(read.predicted->decode_tokens_per_s.low == 52.5);
  CHECK(read.predicted->prefill_tokens_per_s.per_s == 1234.57);  // six digits are written
  CHECK(read.predicted->lower_bound_s == 0.0180212);
  CHECK(read.predicted->gap == doctest::Approx(0.0041));  // in hundredths of a percent
  CHECK(read.measured->state == "near");
  CHECK(read.measured->date == "2026-11-24");
  CHECK(plan_text(read, model()) == file.text());
}

TEST_CASE("every mistake in a plan is one line with its place") {
  CHECK(message("version: 1", "version: 2") == ":1: version: 2 is not known; expected 1");
  CHECK(message("kv: f16", "kv: q4_0") ==
        ":5: kv: q4_0 is no dtype of a cache; expected f16, f32, bf16 or q8_0");
  CHECK(message("kv: f16", "kv: q8_0") ==
        ":5: kv: q8_0 has blocks of 32 elements, which do not fill a head_dim of 16: use f16, f32 "
        "or bf16");
  CHECK(message("kv: f16\n", "") == ":1: kv is missing");
  CHECK(message("gate_up: {", "gateup: {") ==
        ":18: unknown key gateup; known: layers, attention, qkv, out, gate_up, down");
  CHECK(message("cpu0: 0.75", "cpu0: 0.65") == ":17: shares of out sum to 0.9, not 1");
  CHECK(message("cpu0: 0.75", "cpu0: -0.75") ==
        ":17: cpu0: -0.75 is out of range; expected 0 to 1");
  CHECK(message("gate_up: {cpu0", "gate_up: {gpu0") ==
        ":18: gpu0: unit gpu0 is not in units: cpu0, cpu1");
  CHECK(message("cpu1: 0.5, cpu0: 0.5", "cpu0: 0.5, cpu0: 0.5") == ":19: key: cpu0 occurs twice");
  CHECK(message("embedding: cpu1", "embedding: cpu7") ==
        ":21: embedding: unit cpu7 is not in units: cpu0, cpu1");
  CHECK(message("[cpu0, cpu1]", "[cpu0, cpu0]") == ":6: units[1]: unit cpu0 is listed twice");
  CHECK(message("[0, 256]", "[0, 250]") ==
        ":14: context: cut at [0, 250]; expected multiples of 256");
  CHECK(message("context: none", "context: some") ==
        ":16: context: some is neither all, none nor [begin, end]");
  CHECK(message("kv_heads: [2, 3]", "kv_heads: [2, 4]") ==
        ":14: kv_heads[1]: 4 is out of range; expected 0 to 3");
  CHECK(message("- layers: [0, 2]", "- layers: [1, 2]") == ":11: layers: begins at 1; expected 0");
  CHECK(message("- layers: [0, 2]", "- layers: [0, 1]") ==
        ":11: layers: ends at layer 1; tiny has 2");
  CHECK(message("- layers: [0, 2]", "- layers: [0, 0]") ==
        ":11: layers: [0, 0] is empty; the end is left out");
  CHECK(message("tokens: [1, open]", "tokens: [1]") ==
        ":8: tokens: found 1 values; expected [begin, end]");
}

TEST_CASE("overlapping and missing heads and tokens are reported where the attention stands") {
  CHECK(message("kv_heads: [0, 2]", "kv_heads: [0, 3]").substr(0, 4) == ":13:");
  CHECK(message("kv_heads: [0, 2]", "kv_heads: [0, 1]") ==
        ":13: layers 0-1: attention: new tokens of kv head 1 are on no unit; expected one");
  CHECK(message("[256, open], new: false", "[256, open], new: true") ==
        ":13: layers 0-1: attention: new tokens of kv head 2 are on cpu0 and cpu1");
  CHECK(
      message("context: [256, open]", "context: [512, open]").find("position 256 is on no unit") !=
      std::string::npos);
}

TEST_CASE("a prediction must be one") {
  const std::string base =
      "predicted: {decode_tokens_per_s: 5, decode_interval_90: [4, 6], prefill_tokens_per_s: 50, "
      "prefill_interval_90: [40, 60], lower_bound_s: 0.1, gap: 0.4 %}\n";
  CHECK(message("embedding: cpu1\n", "embedding: cpu1\n" + base) == "");
  std::string bad = base;
  bad.replace(bad.find("0.4 %"), 5, "fine");
  CHECK(message("embedding: cpu1\n", "embedding: cpu1\n" + bad) ==
        ":22: gap: fine is no percentage; expected one like 0.4 %");
}

TEST_CASE("a plan that cannot be written leaves the old one") {
  const Plan plan = single_unit_plan(model(), {"cpu0"}, 0);
  CHECK_THROWS_WITH_AS(write_plan(plan, model(), "/nowhere/plan.yaml"),
                       doctest::Contains("/nowhere/plan.yaml: cannot create"), Error);
}

TEST_CASE(
    "streamed columns are read behind the resident ones of their unit, in any order of keys") {
  std::string text = kPlan;
  const std::string from = "gate_up: {cpu0: 1}";
  text.replace(text.find(from), from.size(),
               "gate_up: {cpu1.streamed: 0.5, cpu0: 0.25, cpu1: 0.25}");
  const PlanFile file;
  write_file_atomically(file.path, text);
  const Plan plan = read_plan(file.path, model());
  // 6 blocks of 16: 1.5, 1.5 and 3 -> 2, 1 and 3.
  CHECK(plan.phases.front().layers.front().gate_up ==
        LinearSplit{{0, {0, 32}}, {1, {32, 48}}, {1, {48, 96}, Home::kStreamed}});
}

TEST_CASE("plans that stream read back to exactly the homes that were written") {
  std::mt19937_64 random(21);
  const PlanFile file;
  for (int i = 0; i < 100; ++i) {
    const ModelSpec spec = tiny_model({.hidden = 64 + 16 * (i % 7),
                                       .intermediate = 2048 + 16 * (i % 50),
                                       .kv_heads = 1 + i % 8,
                                       .layers = 1 + i % 5,
                                       .vocab = 32000 + i});
    const Plan plan = random_plan(spec, {"cpu0", "gpu0", "gpu 1"}, random, {.can_stream = 6});
    write_plan(plan, spec, file.path);
    const Plan read = read_plan(file.path, spec);
    REQUIRE(read.phases == plan.phases);
    CHECK(plan_text(read, spec) == file.text());
  }
}

TEST_CASE("a home that is none is named, with those there are") {
  CHECK(message("gate_up: {cpu0", "gate_up: {cpu0.stream") ==
        ":18: cpu0.stream: .stream is no home of weights; expected cpu0 or cpu0.streamed");
  CHECK(message("gate_up: {cpu0", "gate_up: {gpu0.streamed") ==
        ":18: gpu0.streamed: unit gpu0.streamed is not in units: cpu0, cpu1");
}
