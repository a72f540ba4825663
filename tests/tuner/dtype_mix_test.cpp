#include "tuner/dtype_mix.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "kernels/error.h"
#include "tests/tuner/run_binary.h"
#include "tuner/model_source.h"

using namespace tandem;

namespace {

ModelSpec tinyllama(const std::string& mix) {
  return open_spec({.model = "tinyllama-1.1b", .dtype = {}, .mix = mix});
}

int64_t count(const ModelSpec& spec, DType LayerDTypes::*matrix, DType dtype) {
  return std::count_if(spec.layers.begin(), spec.layers.end(),
                       [&](const LayerDTypes& layer) { return layer.*matrix == dtype; });
}

}  // namespace

TEST_CASE("a mix of one layer is that of the downloaded-like golden") {
  const std::string path = TANDEM_SOURCE_DIR "/tests/data/llama-q4_k_m.gguf";
  const ModelSpec file = open_spec({.model = path, .dtype = {}});
  ModelSpec shape = file;
  apply_mix("q4_k_m", shape);
  CHECK(shape.lm_head == file.lm_head);
  CHECK(shape.embedding == file.embedding);
  const LayerDTypes &a = shape.layers[0], &b = file.layers[0];
  for (DType LayerDTypes::*matrix :
       {&LayerDTypes::q, &LayerDTypes::k, &LayerDTypes::v, &LayerDTypes::out, &LayerDTypes::gate,
        &LayerDTypes::up, &LayerDTypes::down})
    CHECK(a.*matrix == b.*matrix);
}

TEST_CASE("q4_k_m has more bits for half of the values and of the down projections") {
  const ModelSpec spec = tinyllama("q4_k_m");
  CHECK(spec.lm_head == DType::kQ6_K);
  CHECK(spec.embedding == DType::kQ4_K);
  // Of 22 layers 0 and 1, 19 to 21, and each third from 4 to 18: 10.
  CHECK(count(spec, &LayerDTypes::v, DType::kQ6_K) == 10);
  CHECK(count(spec, &LayerDTypes::down, DType::kQ6_K) == 10);
  CHECK(count(spec, &LayerDTypes::gate, DType::kQ4_K) == 22);
  // 0.630e9 bytes a token in a file that llama.cpp made (../shared/peers.md).
  CHECK(static_cast<double>(weight_bytes_per_token(spec)) ==
        doctest::Approx(0.630e9).epsilon(0.01));
}

TEST_CASE("the other mixes follow their rules") {
  CHECK(count(tinyllama("q3_k_m"), &LayerDTypes::v, DType::kQ5_K) == 2);
  CHECK(count(tinyllama("q3_k_m"), &LayerDTypes::down, DType::kQ5_K) == 1);
  CHECK(count(tinyllama("q3_k_m"), &LayerDTypes::out, DType::kQ4_K) == 22);
  CHECK(count(tinyllama("q4_k_s"), &LayerDTypes::v, DType::kQ5_K) == 4);
  CHECK(count(tinyllama("q4_k_s"), &LayerDTypes::down, DType::kQ5_K) == 2);
  CHECK(count(tinyllama("q5_k_m"), &LayerDTypes::down, DType::kQ6_K) == 10);
  for (const std::string& mix : mix_names()) {
    CHECK(is_mix(mix));
    CHECK(dtype_name(tinyllama(mix)) == mix);
  }
  CHECK_FALSE(is_mix("q4_k"));
}

TEST_CASE("mixes are for shapes, and known by their names") {
  const TemporaryFolder folder;
  const auto fails = [&](const std::string& arguments) {
    const Finished finished = run_tandem(folder, arguments);
    CAPTURE(finished.err);
    CHECK(finished.exit_code == 2);
    return finished.err;
  };
  CHECK(fails("run --model " TANDEM_SOURCE_DIR "/tests/data/llama-q4_k_m.gguf --dtype q4_k_m "
              "--token-ids 1 -n 1")
            .find("leave --dtype out") != std::string::npos);
  CHECK(fails("synthesize tinyllama-1.1b --dtype q4_k_x -o x.gguf").find("q4_k_x") !=
        std::string::npos);
}
