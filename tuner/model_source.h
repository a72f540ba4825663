// What `--model` may be: a GGUF file, a shape file (HF config.json keys in YAML), or the name of a
// compiled-in shape.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "runtime/model.h"
#include "sim/model_spec.h"

namespace tandem {

/// Names of the shapes compiled in from tuner/models/.
std::vector<std::string> shape_names();

struct ModelSource {
  std::string model;  ///< path or name
  std::optional<DType>
      dtype;  ///< of a shape's matrices (default q4_0); Error if given for a GGUF that differs
  uint64_t seed = 1;     ///< of a shape's weights
  std::string mix = {};  ///< one of mix_names() instead of dtype
};

/// Shape and dtypes; reads no weights.
ModelSpec open_spec(const ModelSource& source);
/// The model itself; a shape's weights are made here.
Model open_model(const ModelSource& source);

}  // namespace tandem
