#include "tests/goldens.h"

#include <yaml-cpp/yaml.h>

#include <filesystem>
#include <fstream>

namespace tandem {
namespace {

std::vector<float> read_floats(const std::string& path) {
  std::vector<float> values(std::filesystem::file_size(path) / sizeof(float));
  std::ifstream in(path, std::ios::binary);
  in.read(reinterpret_cast<char*>(values.data()),
          static_cast<std::streamsize>(values.size() * sizeof(float)));
  return values;
}

/// As the goldens' README states: 1.5 times another engine's error, and 5e-6 for F32 weights.
double tolerance(const YAML::Node& golden) {
  const auto types = golden["tensor_types"].as<std::vector<std::string>>();
  const bool exact = types == std::vector<std::string>{"F32"};
  return exact ? 5e-6 : 1.5 * golden["other_engine_error"].as<double>();
}

}  // namespace

std::vector<Golden> read_goldens() {
  const std::string folder = std::string(TANDEM_SOURCE_DIR) + "/tests/data/";
  std::vector<Golden> goldens;
  for (const YAML::Node& node : YAML::LoadFile(folder + "goldens.yaml")) {
    const std::string model = folder + node["model"].as<std::string>();
    if (!std::filesystem::exists(model)) continue;
    const auto name = node["logits"].as<std::string>();
    goldens.push_back({.model_path = model,
                       .name = name,
                       .tokens = node["tokens"].as<std::vector<int32_t>>(),
                       .logits = read_floats(folder + name),
                       .tolerance = tolerance(node)});
  }
  return goldens;
}

}  // namespace tandem
