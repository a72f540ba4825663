// `tandem validate` through the built binary.
#include <doctest/doctest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "tests/tuner/this_machine.h"

namespace tandem {
namespace {

const std::string kOnce = " --repeat 1 --max-seconds 1";

/// Any rate is inside, or none.
Prediction claim(double low, double high) {
  Prediction prediction;
  prediction.decode_tokens_per_s = {high, low, high};
  prediction.prefill_tokens_per_s = {high, low, high};
  prediction.lower_bound_s = 1e-9;
  return prediction;
}

void set_claim(const PlannedFolder& place, double low, double high) {
  Plan plan = place.plan();
  plan.predicted = claim(low, high);
  place.write(plan);
}

TEST_CASE("A plan whose rates are inside its claim is proved and says what was measured") {
  const PlannedFolder place;
  set_claim(place, 1e-3, 1e12);
  const Finished finished = place.run("validate plan.yaml --json" + kOnce);
  CAPTURE(finished.err);
  REQUIRE(finished.exit_code == 0);
  const auto json = nlohmann::json::parse(finished.out);
  CHECK(json["logits"]["identical"] == true);
  CHECK(json["decode"]["holds"] == true);
  const Plan plan = place.plan();
  REQUIRE(plan.measured.has_value());
  CHECK(plan.measured->decode_tokens_per_s ==
        doctest::Approx(json["decode"]["measured_tokens_per_s"].get<double>()).epsilon(0.01));
  CHECK(plan.measured->prefill_tokens_per_s > 0);
  REQUIRE(plan.predicted.has_value());
}

TEST_CASE("Rates outside the claim end with exit code 3 and are named") {
  const PlannedFolder place;
  set_claim(place, 1e11, 1e12);
  const Finished finished = place.run("validate plan.yaml" + kOnce);
  CHECK(finished.exit_code == 3);
  CHECK(finished.out.find("OUTSIDE") != std::string::npos);
  CHECK(finished.out.find("identical to cpu0 alone") != std::string::npos);
  CHECK(place.plan().measured.has_value());
}

TEST_CASE("A head cut by positions is held to the tolerance") {
  const PlannedFolder place("llama-mha-f32.gguf");
  Plan plan = place.plan();
  plan.predicted = claim(1e-3, 1e12);
  plan.workload.context = 300;
  for (Phase& phase : plan.phases)
    for (LayerPlan& layer : phase.layers) {
      layer.attention = {{0, {0, 4}, {0, 256}, false}, {1, {0, 4}, {256, kOpenEnd}, true}};
      layer.qkv = {{1, {0, 4 * 3 * 16}}};  // 4 heads of q, k and v, 16 elements each
    }
  place.write(plan);
  const Finished finished = place.run("validate plan.yaml --json --kv f32" + kOnce);
  CAPTURE(finished.err);
  REQUIRE(finished.exit_code == 0);
  const auto json = nlohmann::json::parse(finished.out);
  CHECK(json["logits"]["must_be_identical"] == false);
  // sqrt(2 x 3 layers) x 5e-6.
  CHECK(json["logits"]["tolerance"].get<double>() == doctest::Approx(std::sqrt(6.0) * 5e-6));
  // A tolerance that no cut meets.
  if (json["logits"]["identical"] == false)
    CHECK(place.run("validate plan.yaml --kv f32 --tolerance 0" + kOnce).exit_code == 3);
}

TEST_CASE("Another model's plan is refused and left as it was") {
  const PlannedFolder place;
  const std::string before = read_text(place / "plan.yaml");
  const Finished finished =
      place.run("validate plan.yaml --model " + kTestData + "llama-q4_0.gguf" + kOnce);
  CHECK(finished.exit_code == 2);
  CHECK(finished.err.find("made for model") != std::string::npos);
  CHECK(read_text(place / "plan.yaml") == before);
}

TEST_CASE("Forced, nothing is written into the plan") {
  const PlannedFolder place;
  const std::string before = read_text(place / "plan.yaml");
  const Finished finished =
      place.run("validate plan.yaml --force --model " + kTestData + "llama-q4_0.gguf" + kOnce);
  CHECK(finished.exit_code != 2);
  CHECK(read_text(place / "plan.yaml") == before);
}

}  // namespace
}  // namespace tandem
