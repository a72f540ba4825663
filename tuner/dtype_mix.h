// Mixes of dtypes that models are downloaded in: which tensor has which.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "sim/model_spec.h"

namespace tandem {

/// "q3_k_s", "q3_k_m", ... "q5_k_m".
std::vector<std::string> mix_names();
bool is_mix(std::string_view name);

/// Sets the dtypes of all matrices as llama.cpp's quantiser chooses them for a dense llama or qwen
/// model without an importance matrix (llama-quant.cpp, llama_tensor_get_type), and model.mix.
/// `name` is one of mix_names().
void apply_mix(std::string_view name, ModelSpec& model);

}  // namespace tandem
