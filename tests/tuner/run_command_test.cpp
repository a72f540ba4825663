// `tandem run` through the built binary, on the bundled models.
#include <doctest/doctest.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "runtime/pre_tokenizer.h"
#include "runtime/tokenizer.h"
#include "tests/tuner/bpe_model.h"
#include "tests/tuner/this_machine.h"

namespace tandem {
namespace {

const std::string kOfModel = "--model " + kTestData + "llama-q8_0.gguf ";

std::vector<float> read_floats(const std::filesystem::path& path) {
  const std::string bytes = read_text(path);
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  return values;
}

/// The entry of goldens.yaml for this file of logits.
YAML::Node golden(const std::string& logits) {
  for (const YAML::Node& entry : YAML::LoadFile(kTestData + "goldens.yaml"))
    if (entry["logits"].as<std::string>() == logits) return entry;
  FAIL("no golden for " << logits);
  return {};
}

std::string joined(const YAML::Node& ids) {
  std::string text;
  for (const YAML::Node& id : ids) text += (text.empty() ? "" : ",") + id.as<std::string>();
  return text;
}

void check_refused(const TemporaryFolder& folder, const std::string& arguments,
                   const std::string& expected) {
  CAPTURE(arguments);
  const auto before = folder.names();
  const Finished finished = run_tandem(folder, "run " + arguments);
  CAPTURE(finished.err);
  CHECK(finished.exit_code == 2);
  CHECK(finished.out.empty());
  CHECK(std::count(finished.err.begin(), finished.err.end(), '\n') == 1);
  CHECK(finished.err.find(expected) != std::string::npos);
  CHECK(folder.names() == before);
}

/// Whether this build has a tokenizer; the portable one has none.
bool takes_text(const TemporaryFolder& folder) {
  const Finished finished =
      run_tandem(folder, "run -n 0 --quiet --prompt a --model " + kTestData + "licence-q8_0.gguf");
  if (finished.exit_code != 0) MESSAGE("no text in this build: " << finished.err);
  return finished.exit_code == 0;
}

TEST_CASE("The bundled text model continues its golden prompts with exactly the golden tokens") {
  const TemporaryFolder folder;
  const bool text = takes_text(folder);
  for (const YAML::Node& entry : YAML::LoadFile(kTestData + "text.yaml")) {
    const std::string input = text ? "--prompt '" + entry["prompt"].as<std::string>() + "'"
                                   : "--token-ids " + joined(entry["prompt_tokens"]);
    const Finished finished =
        run_tandem(folder, "run --json -n 64 --model " + kTestData +
                               entry["model"].as<std::string>() + " " + input);
    CAPTURE(finished.err);
    REQUIRE(finished.exit_code == 0);
    const auto json = nlohmann::json::parse(finished.out);
    CHECK(json["input_tokens"] == entry["prompt_tokens"].as<std::vector<int32_t>>());
    CHECK(json["tokens"] == entry["greedy_tokens"].as<std::vector<int32_t>>());
    if (!text) continue;
    CHECK(json["text"].get<std::string>().find(entry["greedy_text"].as<std::string>()) !=
          std::string::npos);
  }
}

TEST_CASE("--quiet leaves the text alone on the output") {
  const TemporaryFolder folder;
  if (!takes_text(folder)) return;
  const Finished finished = run_tandem(folder, "run --quiet -n 8 --model " + kTestData +
                                                   "licence-q8_0.gguf --prompt 'This program is "
                                                   "free software'");
  // The first eight golden tokens: "; you can redistribute".
  CHECK(finished.out.substr(0, 9) == "; you can");
  CHECK(std::count(finished.out.begin(), finished.out.end(), '\n') == 1);
  CHECK(finished.err.empty());
}

TEST_CASE("A model with a BPE vocabulary takes text and streams text, byte for byte") {
  const TemporaryFolder folder;
  write_bpe_model(folder / "bpe.gguf", "qwen2");
  std::string why;
  if (!PreTokenizer::open("qwen2", why)) {
    check_refused(folder, "--model bpe.gguf --prompt a", why);
    return;
  }
  const std::string arguments = "run --model bpe.gguf -n 40 --prompt 'hello w' ";
  const Finished finished = run_tandem(folder, arguments + "--json");
  CAPTURE(finished.err);
  REQUIRE(finished.exit_code == 0);
  const auto json = nlohmann::json::parse(finished.out);
  CHECK(json["input_tokens"] == std::vector<int32_t>{256, 258, 259});  // he llo, and " w"
  // Pseudo-random weights: the text is whatever bytes, not all of them UTF-8.
  const auto tokenizer = Tokenizer::open(small_bpe_vocabulary("qwen2"), why);
  std::string text;
  for (const int32_t token : json["tokens"].get<std::vector<int32_t>>())
    text += tokenizer->piece(token);
  CHECK(run_tandem(folder, arguments + "--quiet").out == text + "\n");
}

TEST_CASE("A BPE vocabulary of another model's words is refused for text, and its ids run") {
  const TemporaryFolder folder;
  write_bpe_model(folder / "bpe.gguf", "tekken");
  std::string why;
  CHECK(PreTokenizer::open("tekken", why) == nullptr);
  check_refused(folder, "--model bpe.gguf --prompt a",
                "--prompt: no text for this model: " + why + "; use --token-ids");
  const Finished finished = run_tandem(folder, "run --model bpe.gguf --token-ids 1,5 -n 2 --quiet");
  CAPTURE(finished.err);
  CHECK(finished.exit_code == 0);
}

TEST_CASE("Logits are a row per input token and, with -n, a row per new token") {
  const TemporaryFolder folder;
  const auto bytes = [&](const std::string& arguments) {
    REQUIRE(run_tandem(folder, "run " + kOfModel + arguments).exit_code == 0);
    return std::filesystem::file_size(folder / "out.f32");
  };
  // 3 rows, then 3 + 2, of 512 logits of 4 bytes.
  CHECK(bytes("--token-ids 1,5,9 -n 0 --logits out.f32 --kv f32") == 3 * 512 * 4);
  CHECK(bytes("--token-ids 1,5,9 -n 2 --logits out.f32 --kv f32") == 5 * 512 * 4);
}

TEST_CASE("A plan over two units gives the bits of one unit with every KV format") {
  const PlannedFolder place;
  const std::string input = "run " + kOfModel + "-n 2 --token-ids 1,5,9,4 --plan plan.yaml --kv ";
  const Plan two = place.plan();
  Plan one = two;
  one.phases =
      single_unit_plan(open_spec({.model = place.source(), .dtype = {}}), two.units, 0).phases;
  std::set<std::string> seen;
  for (const char* format : {"f16", "f32", "bf16", "q8_0"}) {
    CAPTURE(format);
    place.write(two);
    REQUIRE(place.run(input + format + " --logits two.f32").exit_code == 0);
    place.write(one);
    REQUIRE(place.run(input + format + " --logits one.f32").exit_code == 0);
    CHECK(read_text(place / "two.f32") == read_text(place / "one.f32"));
    seen.insert(read_text(place / "one.f32"));
  }
  CHECK(seen.size() == 4);
}

TEST_CASE("A plan over two units gives the golden logits, and the bits of one unit") {
  const PlannedFolder place;
  const YAML::Node entry = golden("llama-q8_0.logits.f32");
  const std::string input =
      "run " + kOfModel + "--kv f32 -n 0 --token-ids " + joined(entry["tokens"]);
  Plan alone = place.plan();
  REQUIRE(place.run(input + " --plan plan.yaml --logits two.f32").exit_code == 0);
  const ModelSpec spec = open_spec({.model = place.source(), .dtype = {}});
  const Plan single = single_unit_plan(spec, alone.units, 0);
  alone.phases = single.phases;
  place.write(alone);
  REQUIRE(place.run(input + " --plan plan.yaml --logits one.f32").exit_code == 0);
  CHECK(read_text(place / "two.f32") == read_text(place / "one.f32"));

  const auto exact = read_floats(kTestData + "llama-q8_0.logits.f32");
  const auto logits = read_floats(place / "two.f32");
  REQUIRE(logits.size() == exact.size());
  double difference = 0;
  double norm = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    difference += std::pow(logits[i] - exact[i], 2);
    norm += std::pow(exact[i], 2);
  }
  // goldens: at most 1.5 x the error of the other engine.
  CHECK(std::sqrt(difference / norm) <= 1.5 * entry["other_engine_error"].as<double>());
}

TEST_CASE("With a profile, predicted stands beside measured for every stage and unit") {
  const PlannedFolder place;
  const Finished finished =
      place.run("run " + kOfModel + "--plan plan.yaml --random-prompt 8 -n 4 --json");
  CAPTURE(finished.err);
  REQUIRE(finished.exit_code == 0);
  const auto json = nlohmann::json::parse(finished.out);
  CHECK(json["tokens"].size() == 4);
  const auto& ledger = json["decode"]["ledger"];
  CHECK(ledger["predicted_s"].get<double>() > 0);
  CHECK(ledger["measured_s"].get<double>() > 0);
  CHECK(ledger["units"].size() == 2);
  CHECK(ledger["units"]["cpu1"]["sync_share"].get<double>() >= 0);
  int downs = 0;
  for (const auto& row : ledger["stages"]) downs += row["stage"] == "down";
  CHECK(downs == 2);
  CHECK(place.run("run " + kOfModel + "--plan plan.yaml --random-prompt 8 -n 4")
            .out.find("predicted") != std::string::npos);
}

TEST_CASE("--context decodes at that depth without a prefill") {
  const PlannedFolder place;
  const Finished finished =
      place.run("run " + kOfModel + "--plan plan.yaml --context 300 -n 5 --json");
  CAPTURE(finished.err);
  REQUIRE(finished.exit_code == 0);
  const auto json = nlohmann::json::parse(finished.out);
  CHECK(json["prefill"]["tokens"] == 0);
  CHECK(json["decode"]["tokens"] == 5);
}

TEST_CASE("Sampling is repeatable by seed") {
  const TemporaryFolder folder;
  const auto tokens = [&](const std::string& seed) {
    const Finished finished =
        run_tandem(folder, "run " + kOfModel +
                               "--token-ids 1,5,9 -n 12 --temperature 2 --json --seed " + seed);
    REQUIRE(finished.exit_code == 0);
    return nlohmann::json::parse(finished.out)["tokens"];
  };
  CHECK(tokens("3") == tokens("3"));
  CHECK(tokens("3") != tokens("4"));
}

TEST_CASE("--trace writes the last step as JSON with a span per task") {
  const PlannedFolder place;
  REQUIRE(place.run("run " + kOfModel + "--plan plan.yaml --token-ids 1,5 -n 2 --trace t.json")
              .exit_code == 0);
  CHECK_FALSE(nlohmann::json::parse(read_text(place / "t.json"))["traceEvents"].empty());
}

TEST_CASE("Bad input ends with one line and exit code 2, and nothing is written") {
  const PlannedFolder place;
  const TemporaryFolder& folder = place.folder();
  const std::string output = " --logits out.f32";
  check_refused(folder, kOfModel + output, "no input");
  check_refused(folder, "--token-ids 1" + output, "--model");
  check_refused(folder, "--model nothing.gguf --token-ids 1" + output, "nothing.gguf");
  check_refused(folder, kOfModel + "--token-ids 1,512" + output, "512 is no token");
  check_refused(folder, kOfModel + "--token-ids -1" + output, "-1 is no token");
  check_refused(folder, kOfModel + "--token-ids 1,x" + output, "--token-ids");
  check_refused(folder, kOfModel + "--token-ids 1 --random-prompt 4" + output, "--token-ids");
  check_refused(folder, kOfModel + "--token-ids 1 -n -1" + output, "-1");
  check_refused(folder, kOfModel + "--token-ids 1 --kv q4_0" + output, "q4_0");
  check_refused(folder, kOfModel + "--token-ids 1 --temperature -1" + output, "--temperature");
  check_refused(folder, kOfModel + "--token-ids 1 --top-p 2" + output, "--top-p");
  check_refused(folder, kOfModel + "--context 1000000" + output, "1000000");
  check_refused(folder, kOfModel + "--token-ids 1 --plan absent.yaml" + output, "absent.yaml");
  check_refused(folder, kOfModel + "--token-ids 1 --machine absent.yaml" + output, "absent.yaml");
  check_refused(folder, kOfModel + "--token-ids 1 --logits no/such/folder", "no/such");
}

TEST_CASE("More memory than there is, is refused before anything is allocated") {
  const PlannedFolder place;
  check_refused(
      place.folder(),
      kOfModel + "--plan plan.yaml --token-ids 1 --force --set machine.memory_bytes=100000",
      "needs");
}

TEST_CASE("A unit that the machine lacks is named with those it has") {
  const PlannedFolder place;
  Plan plan = place.plan();
  plan.units[1] = "gpu7";
  place.write(plan);
  check_refused(place.folder(), kOfModel + "--plan plan.yaml --token-ids 1", "unit gpu7");
}

TEST_CASE("A plan made for another model or machine runs by --force only") {
  const PlannedFolder place;
  const std::string other = "--model " + kTestData + "llama-q4_0.gguf --plan plan.yaml ";
  check_refused(place.folder(), other + "--token-ids 1", "made for model");
  CHECK(place.run("run " + other + "--token-ids 1 -n 1 --force").exit_code == 0);

  Plan plan = place.plan();
  plan.machine_fingerprint = "0123456789abcdef";
  place.write(plan);
  check_refused(place.folder(), kOfModel + "--plan plan.yaml --token-ids 1", "made for machine");
  CHECK(place.run("run " + kOfModel + "--plan plan.yaml --token-ids 1 -n 1 --force").exit_code ==
        0);
}

TEST_CASE("A profile that was measured on another machine is refused") {
  const TemporaryFolder folder;
  MachineProfile machine = two_units_here();
  machine.machine.cpu = "paper CPU";
  machine.fingerprint = profile_fingerprint(machine);
  write_profile(machine, (folder / "machine.yaml").string());
  check_refused(folder, kOfModel + "--token-ids 1", "another machine: CPU paper CPU");
}

TEST_CASE("an output that is also an input, or another output, is refused") {
  const TemporaryFolder folder;
  std::filesystem::copy_file(kTestData + "llama-q8_0.gguf", folder / "model.gguf");
  const std::string before = read_text(folder / "model.gguf");
  check_refused(folder, "--model model.gguf --token-ids 1 --logits ./model.gguf", "overwritten");
  check_refused(folder, kOfModel + "--token-ids 1 --logits out --trace ./out", "overwritten");
  CHECK(read_text(folder / "model.gguf") == before);
}

TEST_CASE("numbers of tokens that no model has are refused before anything is made of them") {
  const TemporaryFolder folder;
  check_refused(folder, kOfModel + "--random-prompt 9223372036854775807", "9223372036854775807");
  check_refused(folder, kOfModel + "--token-ids 1,5 -n 9223372036854775807", "9223372036854775807");
  check_refused(folder, kOfModel + "--token-ids ,", "names no id");
}

}  // namespace
}  // namespace tandem
