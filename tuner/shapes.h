// Model shapes: YAML (or JSON) with the keys of a Hugging Face config.json. No weights, no dtypes.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "sim/model_spec.h"

namespace tandem {

/// A file of tuner/models/, compiled in.
struct CompiledShape {
  std::string_view name;  ///< of the file, without ".yaml"
  std::string_view text;
};
std::span<const CompiledShape> compiled_shapes();  ///< by name

/// All of a spec but its dtypes and fingerprint. Error `FILE:LINE: ...` for an unknown key, a value
/// of the wrong kind or size, and whatever we would compute otherwise than the model means it.
ModelSpec read_shape_file(const std::string& path);
ModelSpec read_compiled_shape(const CompiledShape& shape);

}  // namespace tandem
