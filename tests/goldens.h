// The reference data of tests/data: models, input tokens and exact logits, as goldens.yaml lists
// them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tandem {

struct Golden {
  std::string model_path;  ///< GGUF file
  std::string name;        ///< file name of the logits, for messages
  std::vector<int32_t> tokens;
  std::vector<float> logits;  ///< exact, float32 [rows x vocabulary] of the last `rows` tokens
  double tolerance = 0;       ///< largest relative error |logits - exact| / |exact| of a runtime
};

/// Goldens whose model file is in tests/data: those in formats that tandem reads.
std::vector<Golden> read_goldens();

}  // namespace tandem
