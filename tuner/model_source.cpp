#include "tuner/model_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <string_view>

#include "kernels/error.h"
#include "tuner/dtype_mix.h"
#include "tuner/shapes.h"

namespace tandem {
namespace {

constexpr DType kDefaultDType = DType::kQ4_0;

const CompiledShape* find_compiled(std::string_view name) {
  const auto shapes = compiled_shapes();
  const auto found = std::ranges::find(shapes, name, &CompiledShape::name);
  return found == shapes.end() ? nullptr : &*found;
}

bool is_shape(const std::string& model) {
  const std::string suffix = std::filesystem::path(model).extension().string();
  return find_compiled(model) || suffix == ".yaml" || suffix == ".yml" || suffix == ".json";
}

void check_exists(const std::string& model) {
  if (find_compiled(model) || std::filesystem::exists(model)) return;
  throw Error(fmt::format("model '{}': no such file, nor one of the shapes {}", model,
                          fmt::join(shape_names(), ", ")));
}

/// Rows of a quantised matrix are whole blocks.
void check_blocks(const ModelSpec& spec, const std::string& model) {
  for (const DType dtype : used_dtypes(spec)) {
    const auto check = [&](std::string_view what, int64_t k) {
      const int64_t block = info(dtype).block_size;
      if (k % block != 0)
        throw Error(fmt::format("model '{}': {} is {}, expected a multiple of {}, the block of {}",
                                model, what, k, block, name(dtype)));
    };
    check("hidden_size", spec.hidden_size);
    check("intermediate_size", spec.intermediate_size);
    check("num_attention_heads x head_dim", spec.q_size());
  }
}

ModelSpec open_shape(const ModelSource& source) {
  const CompiledShape* compiled = find_compiled(source.model);
  ModelSpec spec = compiled ? read_compiled_shape(*compiled) : read_shape_file(source.model);
  if (source.mix.empty()) {
    const DType dtype = source.dtype.value_or(kDefaultDType);
    spec.embedding = spec.lm_head = dtype;
    spec.layers.assign(static_cast<size_t>(spec.num_layers),
                       {dtype, dtype, dtype, dtype, dtype, dtype, dtype});
  } else {
    apply_mix(source.mix, spec);
  }
  check_blocks(spec, source.model);
  set_fingerprint(spec, "");
  return spec;
}

void check_dtype(const ModelSource& source, const ModelSpec& spec) {
  if (!source.mix.empty())
    throw Error(
        fmt::format("{}: its weights have the dtypes that they have, not those of {}: leave "
                    "--dtype out, it is for shapes",
                    source.model, source.mix));
  if (source.dtype && *source.dtype != main_dtype(spec))
    throw Error(fmt::format("{}: its weights are {}, not {}: leave --dtype out, it is for shapes",
                            source.model, name(main_dtype(spec)), name(*source.dtype)));
}

}  // namespace

std::vector<std::string> shape_names() {
  std::vector<std::string> names;
  for (const CompiledShape& shape : compiled_shapes()) names.emplace_back(shape.name);
  return names;
}

ModelSpec open_spec(const ModelSource& source) {
  check_exists(source.model);
  if (is_shape(source.model)) return open_shape(source);
  ModelSpec spec = read_gguf_spec(source.model);
  check_dtype(source, spec);
  return spec;
}

Model open_model(const ModelSource& source) {
  check_exists(source.model);
  if (is_shape(source.model)) return synthesize_model(open_shape(source), source.seed);
  Model model = open_gguf(source.model);
  check_dtype(source, model.spec);
  return model;
}

}  // namespace tandem
